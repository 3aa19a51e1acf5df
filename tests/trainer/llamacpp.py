"""Ask the real llama.cpp, in a child process, how likely the next tokens are.

In a child because a bad file ends the process. Caches are F32 and flash attention is off, so that what differs
is the model and not the rounding. One thread: several wait for each other on busy cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

Logprobs = dict[int, float]

# llama.cpp withholds the likelihoods of a token that is half a letter or ends the text. So a plain letter is forced
# on the sampler, which changes nothing in the likelihoods: they are taken before sampling.
PLAIN = 40

CHILD = """
import json, sys
import xllamacpp as x
asked = json.load(sys.stdin)
p = x.CommonParams()
p.model.path = asked["model"]
p.n_ctx, p.n_parallel, p.cache_ram_mib, p.warmup, p.cpuparams.n_threads = 512, 1, 0, False, 1
p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.fit_params = False
if asked["adapter"]:
    p.lora_adapters = [x.CommonAdapterLoraInfo(asked["adapter"], 1.0)]
server = x.Server(p)
answers = []
for prompt in asked["prompts"]:
    answer = server.handle_completions(
        {"prompt": prompt, "n_predict": 1, "n_probs": asked["top"], "temperature": 0, "cache_prompt": False,
         "logit_bias": [[asked["plain"], 1000]]}
    )
    top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    answers.append([[entry["id"], entry["logprob"]] for entry in top])
print("ANSWERS" + json.dumps(answers))
"""


def next_token_logprobs(
    model: Path, prompts: list[list[int]], adapter: Path | None = None, top: int = 20
) -> list[Logprobs]:
    """Give the `top` likeliest next tokens after each prompt (token ids), as natural logarithms."""
    asked = {"model": str(model), "adapter": str(adapter or ""), "prompts": prompts, "top": top, "plain": PLAIN}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", CHILD], input=json.dumps(asked), capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise AssertionError(f"llama.cpp ended with {done.returncode}: {done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS"))
    return [{int(token): value for token, value in answer} for answer in json.loads(line.removeprefix("ANSWERS"))]


def largest_gap(these: list[Logprobs], those: list[Logprobs], among: int = 10) -> float:
    """Give the largest difference over the `among` likeliest tokens of `these`."""
    nowhere = float("-inf")
    return max(
        abs(one[token] - other.get(token, nowhere))
        for one, other in zip(these, those, strict=True)
        for token in sorted(one, key=lambda token: -one[token])[:among]
    )
