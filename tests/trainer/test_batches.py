"""What goes through the model at once."""

from __future__ import annotations

import pytest
import torch

from trainer.batches import IGNORED, beginning, epoch_order, micro_batches, parts
from trainer.data import Encoded


def test_each_example_comes_once_in_an_order_that_seed_and_epoch_decide() -> None:
    order = epoch_order(40, seed=1, epoch=0)

    assert sorted(order) == list(range(40)) != order
    assert epoch_order(40, seed=1, epoch=0) == order
    assert epoch_order(40, seed=1, epoch=1) != order != epoch_order(40, seed=2, epoch=0)


def test_a_batch_is_split_where_padding_would_cost_more_than_another_part() -> None:
    def lengths(*some: int) -> list[list[int]]:
        examples = [Encoded(str(n), tuple(range(n)), 1) for n in some]
        return [[len(example.ids) for example in part] for part in parts(examples, 1024)]

    assert lengths(100, 96, 104, 99) == [[104, 100, 99, 96]]
    assert lengths(40, 300, 38, 290, 42) == [[300, 290], [42, 40, 38]]
    assert lengths(2000, 5) == [[2000], [5]]
    assert lengths() == []


def test_what_examples_begin_with_alike_comes_once_in_one_row() -> None:
    system = (7, 7, 8, 9, 9)
    examples = [Encoded("a", (*system, 1, 2, 3), 6), Encoded("b", (*system, 4, 5), 6), Encoded("c", (*system, 1, 2), 6)]

    (micro,) = micro_batches(examples, 1000, None)

    assert micro.lengths == (5, 3, 2, 2)
    assert micro.ids.tolist() == [[*system, 1, 2, 3, 4, 5, 1, 2]]
    assert micro.labels.tolist() == [[IGNORED] * 5 + [IGNORED, 2, 3, IGNORED, 5, IGNORED, 2]]


@pytest.mark.parametrize(
    ("texts", "starts", "shared"),
    [
        (("abcdefgh", "abcdefxy"), (7, 7), 6),
        (("abcdefgh", "abcdefgh"), (6, 7), 5),  # each keeps the token before its answer
        (("abcdefgh", "abcdef"), (7, 5), 4),
        (("abcxefgh", "abcdefgh"), (7, 7), 0),  # three alike are not worth it
        (("abcdefgh",), (7,), 0),
    ],
    ids=str,
)
def test_a_beginning_ends_before_the_first_answer(texts: tuple[str, ...], starts: tuple[int, ...], shared: int) -> None:
    examples = [Encoded("", tuple(map(ord, text)), start) for text, start in zip(texts, starts, strict=True)]

    assert beginning(examples) == shared


def test_a_beginning_counts_once_towards_the_limit() -> None:
    examples = [Encoded(str(n), (*range(50), 100 + n, 1), 51) for n in range(5)]

    assert [len(part) for part in parts(examples, 60, padded=False)] == [5]
    assert [len(part) for part in parts(examples, 55, padded=False)] == [1, 2, 2]


def test_micro_batches_stay_within_the_limit_and_pad_on_the_right() -> None:
    examples = [Encoded(str(n), tuple(range(1, n + 1)), n - 2) for n in (4, 9, 5, 3, 20)]

    micros = list(micro_batches(examples, 18, pad=0))

    assert [tuple(m.ids.shape) for m in micros] == [(1, 20), (1, 9), (1, 5), (2, 4)]
    assert sum(int((m.ids != 0).sum()) for m in micros) == 41
    last = micros[-1]
    assert last.ids[1].tolist() == [1, 2, 3, 0]
    assert last.labels[1].tolist() == [IGNORED, 2, 3, IGNORED]
    assert torch.equal(last.labels[0] != IGNORED, torch.tensor([False, False, True, True]))
