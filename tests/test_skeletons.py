"""The files in docs/add-your-own.md work as they stand: each is announced as a stranger's package would announce it."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

import skeleton_evidence
from steerclear.core import shelf
from steerclear.core.evidence import Evidence
from steerclear.core.sampling import sample
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.telling.guidance_docs import documentation
from steerclear.testbeds.spiral import Spiral


def test_an_evidence_in_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(load=lambda: skeleton_evidence)
    monkeypatch.setattr(shelf, "entry_points", lambda group: [point] if group == "steerclear.evidence" else [])
    shelf.entries.cache_clear()
    try:
        evidence = shelf.find("evidence", Evidence, "shorter-noise")(prior=0.3)
    finally:
        monkeypatch.undo()
        shelf.entries.cache_clear()
    assert documentation(type(evidence)).equation.startswith("L = log(p / (1 - p)) + clip(")

    testbed, guidance = Spiral(), DynamicNegativeGuidance(1.0, evidence=evidence)
    run = [sample(testbed.denoiser(), guidance, DDIMScheduler(clip_sample=False), seeds, testbed.shape,
                  num_inference_steps=5, negatives=1, dtype=torch.float64) for seeds in (range(4), [2])]  # fmt: skip
    together, alone = (one.trace.table("posterior") for one in run)
    assert torch.equal(together[:, 2:3], alone)
    # at pure noise both predictions are nearly the sample itself, so that the prior is all that is known
    assert together[0].tolist() == pytest.approx([0.3] * 4, abs=0.01)
    lowest, highest = (1 / (1 + 7 / 3 * torch.tensor(bound).exp()) for bound in (3.0, -3.0))
    assert float(together.min()) >= float(lowest) - 1e-12
    assert float(together.max()) <= float(highest) + 1e-12
