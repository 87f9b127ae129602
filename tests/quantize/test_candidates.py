"""What is tried, and in which order."""

from __future__ import annotations

from pocketgenie.quantize.candidates import Candidate, Variant, candidates, most_sensitive, next_to_try
from pocketgenie.quantize.pareto import Goal
from pocketgenie.quantize.products import Bits
from pocketgenie.quantize.sensitivity import GraphSensitivity, Sensitive, Sensitivity


def sensitivity(int4=True):
    """Four layers of the dynamics and two of the decoder; the later one is, the more it suffers."""
    amounts: list[tuple[Bits, float, float]] = [("int8", 0.001, 3.0), ("int4", 0.01, 3.5)]
    likeness: list[tuple[Bits, float]] = [("int8", 50), ("int4", 30)]
    rows = [
        Sensitive(group=f"dynamics.{layer}.ffn", bits=bits, kl=harm * 2**layer, saved_mb=saved, share=0.25)
        for bits, harm, saved in amounts
        for layer in range(4)
    ]
    pixels = [
        Sensitive(group=f"decoder.{layer}.ffn", bits=bits, psnr_db=db - layer, saved_mb=1.0, share=0.5)
        for bits, db in likeness
        for layer in range(2)
    ]
    pass_ms: dict[Bits, float] = {"fp32": 4.0, "int8": 2.0, "int4": 4.4}
    graphs = [
        GraphSensitivity(graph="logits", key={}, pass_ms=pass_ms, rows=tuple(rows)),
        GraphSensitivity(graph="decode", key={}, pass_ms=pass_ms, rows=tuple(pixels)),
    ]
    if not int4:
        graphs = [
            graph.model_copy(update={"rows": tuple(row for row in graph.rows if row.bits == "int8")})
            for graph in graphs
        ]
    return Sensitivity(graphs=tuple(graphs))


def forms(found: list[Candidate]):
    return {candidate.form: candidate for candidate in found}


def test_a_frame_is_refinement_passes_one_more_and_the_decoder():
    found = sensitivity()
    assert found.frame_ms(2, {}) == 4 * 4.0
    assert found.frame_ms(2, dict.fromkeys(found.groups("int8"), "int8")) == 4 * 2.0
    assert found.frame_ms(1, {"dynamics.0.ffn": "int8", "decoder.0.ffn": "int8"}) == 3 * 4 - 2 * 0.5 - 1.0


def test_the_chain_from_float32_to_fewer_bits():
    found = forms(candidates(Variant(steps=2), sensitivity()))
    assert list(found) == ["fp32", "int8", "int8, 2 fp32", "int8, 3 fp32", "int8 + int4", "int4"]
    assert found["fp32"].bits == {} and set(found["int8"].bits.values()) == {"int8"}
    assert [found[form].precision for form in ("fp32", "int8", "int4")] == ["fp32", "int8", "int4"]
    assert found["int8, 2 fp32"].precision == found["int8 + int4"].precision == "mixed"
    half = found["int8 + int4"].bits
    assert half["dynamics.0.ffn"] == "int4" and half["dynamics.3.ffn"] == "int8"
    assert found["int8"].predicted_ms < found["int8, 2 fp32"].predicted_ms < found["fp32"].predicted_ms


def test_the_most_sensitive_layers_stay():
    assert most_sensitive(sensitivity(), 0.5) == {"dynamics.3.ffn", "dynamics.2.ffn", "decoder.1.ffn"}
    assert most_sensitive(sensitivity(), 0.25, "int4") == {"dynamics.3.ffn", "decoder.1.ffn"}


def test_without_int4_there_is_none():
    assert not any("int4" in form for form in forms(candidates(Variant(steps=2), sensitivity(int4=False))))


def order(goal, losses, count=30):
    """The names in the order in which they are tried; `losses` by name, 0 for others."""
    space = [
        candidate
        for variant in (Variant(steps=2), Variant(steps=1), Variant(steps=1, decoder="teacher"))
        for candidate in candidates(variant, sensitivity())
    ]
    tried: dict[str, float] = {}
    while (candidate := next_to_try(space, tried, goal)) and len(tried) < count:
        tried[candidate.name] = losses.get(candidate.name, 0.0)
    return list(tried), space


def test_everything_is_tried_once_the_checkpoint_first():
    tried, space = order(Goal(budget_db=0.3), {})
    assert len(tried) == len(set(tried)) == len(space)
    assert tried[:2] == ["N=2 fp32", "N=1 int8"]
    assert set(tried[1:4]) == {"N=1 int8", "N=1, teacher's decoder int8", "N=2 int8"}


def test_what_int8_takes_over_the_budget_is_refined():
    over = {"N=1 int8": 0.5, "N=1, teacher's decoder int8": 0.5, "N=2 int8": 0.5}
    tried, _ = order(Goal(budget_db=0.3), over)
    assert tried[4:6] == ["N=1 fp32", "N=1 int8, 2 fp32"]
    # What promises no more speed than what is within the budget already waits.
    easy, _ = order(Goal(budget_db=0.3), over | {"N=2 int8": 0.0})
    assert easy.index("N=1 int8 + int4") < easy.index("N=1 fp32")


def test_where_float32_is_over_the_budget_too_nothing_between_is_tried_early():
    everything, _ = order(Goal(budget_db=0.3), {})
    tried, _ = order(Goal(budget_db=0.3), dict.fromkeys(everything, 0.5))
    assert tried[4:6] == ["N=1 fp32", "N=1, teacher's decoder fp32"]
    assert all("int4" in name for name in tried[6:12])


def test_where_the_smallest_is_wanted_int4_comes_early():
    tried, _ = order(Goal(budget_db=0.3, fps=30), {})
    assert all("int4" in name for name in tried[4:10])
