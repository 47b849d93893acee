"""Budgets, FLOPs and the ledger: by hand, against torch's FLOP counter, and over whole training runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from time import perf_counter, sleep
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from bench.engine.batching import collate
from bench.engine.decoder import GenericDecoder
from bench.engine.model_facts import architecture
from bench.plan.budget import UNITS, Architecture, Budget, Ledger, Meter
from bench.types import Rows, Trajectory, UserError
from tests.helpers.engine import TOKENIZER, method, pool, run, small_model, small_policy, stage

ARCHITECTURE = Architecture(body=1000, head=100, attention=8)


@pytest.mark.parametrize(
    ("text", "unit", "limit"),
    [
        ("2e14flops", "flops", 2e14),
        ("3Mtokens", "tokens", 3e6),
        ("300s", "seconds", 300.0),
        ("200steps", "steps", 200.0),
        ("500rollouts", "rollouts", 500.0),
        ("1.5e+3 tokens", "tokens", 1500.0),
        (" 5e-1 s ", "seconds", 0.5),
        ("0.25Gflops", "flops", 2.5e8),
        ("1kflops", "flops", 1e3),
        ("1Tflops", "flops", 1e12),
        ("1Pflops", "flops", 1e15),
        ("1Eflops", "flops", 1e18),
        ("2e3ksteps", "steps", 2e6),
    ],
)
def test_budgets_are_read(text: str, unit: str, limit: float) -> None:
    assert Budget.parse(text) == Budget(unit, limit)


@pytest.mark.parametrize(
    "text",
    [
        *("", "100", "flops", "0steps", "-3s", "1e14 FLOPs", "3mtokens", "1.2.3s", ".s", "1e400flops", "nans", "infs"),
        *("3sec", "1e3.5s", "10 steps 20s", "5%", "1,000steps", "1kMflops", "2hours"),
    ],
)
def test_malformed_budgets_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="malformed budget"):
        Budget.parse(text)


def test_budget_prints_what_it_reads() -> None:
    for unit in UNITS:
        budget = Budget.parse(f"2500{unit}")
        assert str(budget) == f"2500 {UNITS[unit]}"


# --- FLOPs ---------------------------------------------------------------------------------------------------


def test_flops_by_hand() -> None:
    assert ARCHITECTURE.forward(5, 2) == 2 * 1000 * 5 + 2 * 100 * 2 + 8 * 5 * 5 == 10_600
    # Four tokens after a context of 3: three are fed back and see 4, 5 and 6 keys.
    assert ARCHITECTURE.decode(3, 4) == 2 * 1100 * 3 + 8 * (4 + 5 + 6) == 6720
    assert ARCHITECTURE.decode(3, 1) == 0


def test_ledger_by_hand() -> None:
    meter = Meter(ARCHITECTURE, Budget.parse("1Gflops"))
    meter.charge_sample([5, 3], [(5, 4), (5, 1), (3, 2)], padding=7)
    sampled = 2 * 1000 * 8 + 2 * 100 * 2 + 8 * (25 + 9)
    sampled += 2 * 1100 * 3 + 8 * (6 + 7 + 8) + 2 * 1100 + 8 * 4
    assert meter.spent == meter.ledger.flops == sampled
    meter.charge_train([9, 6], [4, 1], padding=3)
    trained = 2 * 1000 * 15 + 2 * 100 * 5 + 8 * (81 + 36)
    assert meter.spent == sampled + 3 * trained
    meter.charge_score([9, 6], [4, 1], padding=3)
    assert meter.spent == sampled + 4 * trained
    meter.charge_demonstrations([("a", 3), ("b", 2)])
    meter.charge_demonstrations([("a", 4)])
    counts = {k: v for k, v in asdict(meter.ledger).items() if v and k != "flops"}
    assert counts == {
        "trained_tokens": 15,
        "loss_tokens": 5,
        "prefilled_tokens": 8,
        "generated_tokens": 7,
        "decoded_tokens": 4,
        "scored_tokens": 15,
        "padding_tokens": 13,
        "rollouts": 3,
        "demonstrations": 3,
        "distinct_demonstrations": 2,
        "demonstration_tokens": 9,
    }
    assert meter.ledger.tokens == 15 + 15 + 8 + 4


def test_architecture_by_hand() -> None:
    body = 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert architecture(small_model()) == Architecture(body, 64 * len(TOKENIZER), 4 * 2 * 64)
    grouped = small_model(kind=(Qwen2Config, Qwen2ForCausalLM), num_key_value_heads=1, tie_word_embeddings=True)
    body = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert architecture(grouped) == Architecture(body, 64 * len(TOKENIZER), 4 * 2 * 64)
    convolution = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=64, n_layer=3, n_head=2))
    assert architecture(convolution) == Architecture(3 * 12 * 64 * 64, 64 * 50, 4 * 3 * 64)


def test_models_of_unknown_flops_are_refused() -> None:
    experts = small_model(kind=(MixtralConfig, MixtralForCausalLM), num_local_experts=4)
    with pytest.raises(UserError, match=r"type 'mixtral'.*experts"):
        architecture(experts)


def rows_of(count: int) -> list[Trajectory]:
    """Trajectories of one length, so that no padding is counted."""
    rows = [Trajectory(e.prompt_ids, e.demo_ids[:-2], e.demo_ids[-2:]) for e in pool(40)]
    found = [row for row in rows if len(row) == len(rows[0])][:count]
    assert len(found) == count
    return found


def count(action: Any) -> int:
    """FLOPs by torch's counter; the plain attention kernel, because it does not know the fused one of the CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 1, "num_hidden_layers": 3}])
def test_training_flops_equal_the_counted_ones(changes: dict[str, Any]) -> None:
    """Exactly: the head runs at the targets only, and a backward pass costs two forwards in the plain kernel.

    (A fused attention kernel computes the scores again in its backward: 2.5 forwards of attention instead of 2.)
    """
    policy = small_policy(budget="1Tflops", **changes)
    assert policy.meter is not None
    micro = collate(rows_of(4), policy.device)
    forward = count(lambda: policy.score(micro.rows, policy.model, 10_000))
    assert forward == policy.meter.spent
    both = count(lambda: policy.forward(micro, True)[0].sum().backward())
    assert both == policy.meter.spent - forward == 3 * forward


@pytest.mark.parametrize("generic", [False, True])
def test_sampling_flops_equal_the_counted_ones(generic: bool) -> None:
    policy = small_policy(budget="1Tflops")
    if generic:
        policy.engine.decoder = GenericDecoder(policy.model)
    assert policy.meter is not None
    prompts = [[1, 7, 8, 9, 10], [1, 5, 6, 7, 8]]  # as long as each other: no padding
    policy.eos_ids = frozenset()  # and no finished rows
    counted = count(lambda: policy.sample(prompts, 3, 12, list(range(3 * len(prompts)))))
    assert policy.meter.ledger.padding_tokens == 0
    # Each step of the generic path attends to its static cache of 16 tokens, not only to those seen so far.
    wasted = 6 * sum(16 - (5 + i) for i in range(1, 12)) if generic else 0
    assert counted == policy.meter.spent + policy.architecture.attention * wasted


# --- the meter over whole runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["1.5Gflops", "5ktokens", "100rollouts", "13steps"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("sft", {}),
        ("sft", {"num_updates": 2}),
        ("grpo", {"num_updates": 1, "kl_coef": 0.0}),
        ("grpo", {"num_updates": 2}),
        ("uft", {"num_updates": 2, "hint_until": 1.0}),
        ("uft", {"schedule": "uniform", "num_updates": 1}),
        ("chord", {"num_demos": 3}),
        ("prefix_rft", {"num_hybrids": 2}),
        ("luffy", {"num_updates": 1}),
        ("srft", {"num_updates": 2}),
        ("relift", {"num_updates": 1, "buffer_size": 3}),
    ],
)
def test_no_step_costs_more_than_its_worst_case(name: str, fields: dict[str, Any], budget: str) -> None:
    if name == "sft" and "rollouts" in budget:
        pytest.skip("supervised fine-tuning samples nothing")
    policy = small_policy(budget=budget)
    meter = policy.meter
    assert meter is not None
    current = stage(policy, method(name, **fields), pool(30), max_new_tokens=9)
    steps = 0
    while True:
        before, bound = meter.spent, current.worst_case(current.examples())
        if current.run_step() is None:
            assert before + bound > meter.limit
            break
        steps += 1
        assert before < meter.spent <= before + bound
        assert meter.spent <= meter.limit
    assert steps >= 3


def test_seconds_cover_the_whole_step() -> None:
    policy = small_policy(budget="1s")
    meter = policy.meter
    assert meter is not None
    chosen = method("uft")
    collect = chosen.collect
    object.__setattr__(chosen, "collect", lambda examples, ctx: sleep(0.05) or collect(examples, ctx))
    current = stage(policy, chosen, pool(10), max_new_tokens=8)
    current.run_step()  # the first step of a process is slow
    meter.ledger, meter.slowest_step = Ledger(), 0.0
    begin = perf_counter()
    records = run(current)
    elapsed = perf_counter() - begin
    assert 0.75 * elapsed <= meter.ledger.seconds <= elapsed
    assert meter.ledger.seconds_other >= 0.05 * len(records)  # a method's own work counts
    assert len(records) >= 2 and abs(meter.spent - 1.0) <= meter.slowest_step
    assert min(asdict(meter.ledger)[f"seconds_{p}"] for p in ("sample", "verify", "score", "train")) > 0


def test_rollout_budgets_of_methods_that_sample_nothing_are_refused() -> None:
    policy = small_policy(budget="10rollouts")
    with pytest.raises(UserError, match="never end"):
        stage(policy, method("sft"), pool(10)).run_step()


def test_worst_case_by_hand() -> None:
    rows = Rows(prefill=[5], decode=[(5, 4), (5, 4)], train=[(9, 4), (9, 4)])
    expected = {
        "steps": 3,
        "rollouts": 2,
        "tokens": 5 + 2 * 3 + 18 + 2 * 18,
        "seconds": 1.5,
        "flops": ARCHITECTURE.forward(5, 1) + 2 * ARCHITECTURE.decode(5, 4) + 5 * 2 * ARCHITECTURE.forward(9, 4),
    }
    for unit, cost in expected.items():
        assert Meter(ARCHITECTURE, Budget(unit, 1e9), slowest_step=1.5).worst_case(rows, 2, 3) == cost


def test_ledger_survives_a_round_trip() -> None:
    policy = small_policy(budget="5steps")
    run(stage(policy, method("uft"), pool(10), max_new_tokens=6))
    assert policy.meter is not None
    ledger = policy.meter.ledger
    assert Ledger.restore(json.loads(json.dumps(asdict(ledger)))) == ledger
    assert Ledger.restore(json.loads(json.dumps(ledger.record()))) == ledger  # what done.json holds
    assert ledger.record()["tokens"] == ledger.tokens and ledger.record()["seconds"] == ledger.seconds


def test_progress_is_that_of_the_stage() -> None:
    meter = Meter(ARCHITECTURE, Budget.parse("1000tokens"))
    assert (meter.limit, meter.progress) == (1000.0, 0.0)
    meter.limit = 300.0
    meter.ledger.trained_tokens = 150
    assert meter.progress == 0.5 and meter.affords(150) and not meter.affords(151)
    meter.ledger.trained_tokens = 290
    meter.start, meter.limit = meter.spent, 1000.0
    assert meter.progress == 0.0
    meter.ledger.scored_tokens = 355
    assert meter.progress == 0.5
    meter.ledger.scored_tokens = 2000  # a slow last step of a budget in seconds
    assert meter.progress == 1.0


def test_two_stages_share_one_budget() -> None:
    policy = small_policy(budget="6ktokens")
    meter = policy.meter
    assert meter is not None
    meter.limit = 2000.0
    first = run(stage(policy, method("sft"), pool(30)))
    assert 1500 < meter.spent <= 2000
    meter.start, meter.limit = meter.spent, 6000.0
    second = run(stage(policy, method("grpo", num_updates=1), pool(30), max_new_tokens=8))
    assert meter.spent <= 6000 and first[0]["progress"] == second[0]["progress"] == 0.0
    for records in (first, second):
        shares = [record["progress"] for record in records]
        assert shares == sorted(shares) and 0.5 < shares[-1] < 1


def test_timed_phases_add_up() -> None:
    meter = Meter(ARCHITECTURE, Budget.parse("1s"))
    for _ in range(2):
        with pytest.raises(RuntimeError), meter.timed("verify"):
            torch.zeros(1).sum()
            raise RuntimeError
    assert meter.spent == meter.ledger.seconds == meter.ledger.seconds_verify > 0
