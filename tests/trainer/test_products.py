"""Products are the same numbers whichever library makes them."""

import pytest
import torch

from trainer import products
from trainer.products import times


def no_room(*_: object) -> torch.Tensor:
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("onednn", ["there", "missing", "without room"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 3, 5), (7, 16, 1), (40, 33, 64)])
def test_products_equal_torchs_own(
    monkeypatch: pytest.MonkeyPatch, onednn: str, kind: torch.dtype, rows: int, inner: int, columns: int
) -> None:
    if onednn != "there":
        monkeypatch.setattr(products, "_onednn", no_room if onednn == "without room" else None)
    torch.manual_seed(1)
    left, more = torch.randn(rows, inner).to(kind), torch.randn(rows, columns).to(kind)
    upright, lying = torch.randn(inner, columns).to(kind), torch.randn(columns, inner).to(kind).t()

    for matrix in (upright, lying):
        assert torch.allclose(times(left, matrix), left @ matrix, atol=1e-5)
        assert torch.allclose(times(left, matrix, more), torch.addmm(more, left, matrix), atol=1e-5)


def test_torchs_own_product_is_used_only_where_the_other_library_is_missing() -> None:
    assert (products._onednn is not None) == torch.backends.mkldnn.is_available()
