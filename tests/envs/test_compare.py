"""`dipole compare`: episodes paired by seed, and what their differences say."""

import json

import numpy as np
import pytest

from dipole.apps.main import main
from dipole.data.core.errors import ConfigError, DataError
from dipole.envs.compare import compare

PUSHT = {"id": "pusht", "version": "gym-pusht 0.1.8"}


def write(folder, scores, first_seed=0, environment=PUSHT, **terms):
    """An evaluation as the first edition wrote it; success where the score is above 0.95."""
    folder.mkdir(parents=True, exist_ok=True)
    episodes = [
        {
            "seed": first_seed + number,
            "success": bool(score > 0.95),
            "max_reward": float(score),
            "final_reward": 0.5 * float(score),
            "steps": 100,
        }
        for number, score in enumerate(scores)
    ]
    metrics = {"episodes": len(episodes), "per_episode": episodes, "environment": environment}
    (folder / "metrics.json").write_text(json.dumps(metrics | terms))
    return folder


def settings(**values):
    return {"environment_settings": values}


@pytest.fixture
def scores():
    return np.random.default_rng(3).uniform(0.2, 1.0, 40)


def test_pairs_show_a_difference_that_separate_intervals_hide(tmp_path, scores):
    better = write(tmp_path / "a", scores + 0.02)
    worse = write(tmp_path / "b", scores)
    found = compare(better, worse)
    assert found.differences["score"].value == pytest.approx(0.02)
    assert found.differences["score"].ci95 == pytest.approx((0.02, 0.02))
    assert found.means["first"]["score"].ci95[0] < found.means["second"]["score"].ci95[1]
    assert (found.better, found.pairs, found.score_name) == ("first", 40, "max_reward")
    assert found.sentence() == (
        "A beats B by more than chance: max_reward +0.02 (95 % interval +0.02 to +0.02) over "
        "40 pairs of episodes."
    )
    assert compare(worse, better).sentence().startswith("B beats A by more than chance: A - B is")


def test_a_difference_within_chance_is_said_to_be_one(tmp_path, scores):
    noise = np.random.default_rng(4).normal(0, 0.1, 40)
    found = compare(write(tmp_path / "a", scores), write(tmp_path / "b", scores + noise))
    assert found.better == "neither"
    assert "A does not beat B by more than chance, nor B A" in found.sentence()


def test_an_evaluation_and_itself(tmp_path, scores):
    folder = write(tmp_path / "a", scores)
    found = compare(folder, folder / "metrics.json")
    assert found.differences["score"].ci95 == (0, 0)
    assert found.mcnemar_p == 1
    assert found.sentence() == (
        "A does not beat B: max_reward is the same in each pair, over 40 pairs of episodes."
    )


def test_five_unanimous_pairs_are_too_few(tmp_path):
    found = compare(write(tmp_path / "a", [0.9] * 5), write(tmp_path / "b", [0.1] * 5))
    assert found.better == "neither"
    assert "at least 6 are needed" in found.sentence()
    assert (
        compare(write(tmp_path / "a", [0.9] * 6), write(tmp_path / "b", [0.1] * 6)).better
        == "first"
    )


def test_success_is_compared_in_pairs_that_differ(tmp_path):
    a = write(tmp_path / "a", [1, 1, 1, 1, 1, 1, 1, 0, 0, 1])
    b = write(tmp_path / "b", [0, 0, 0, 0, 0, 0, 0, 1, 0, 1])
    found = compare(a, b)
    assert (found.only_first, found.only_second) == (7, 1)
    assert found.mcnemar_p == pytest.approx(18 / 256)  # 2 (1 + 8) / 2^8
    low, high = found.differences["success"].ci95
    assert 0 < low < 0.6 == pytest.approx(found.differences["success"].value)
    assert high < 1


def test_return_is_compared_where_both_have_it(tmp_path, scores):
    with_return = write(tmp_path / "a", scores, score_name="return_mean", score=3.0)
    metrics = json.loads((with_return / "metrics.json").read_text())
    for entry in metrics["per_episode"]:
        entry["return"] = 100 * entry["max_reward"]
        entry["success"] = None  # an environment that does not tell
    (with_return / "metrics.json").write_text(json.dumps(metrics))
    found = compare(with_return, with_return)
    assert sorted(found.differences) == ["return", "score"]
    assert found.means["first"]["score"].value == pytest.approx(100 * scores.mean())
    assert found.mcnemar_p is None
    with pytest.raises(ConfigError, match=r"the score is return in .* and max_reward in"):
        compare(with_return, write(tmp_path / "b", scores), force=True)


def test_an_episode_that_said_nothing_of_success_failed_where_others_said_something(tmp_path):
    folder = write(tmp_path / "a", [1.0, 1.0, 0.2], score_name="success_rate")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["per_episode"][1]["success"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert compare(folder, folder).means["first"]["score"].value == pytest.approx(1 / 3)


def test_a_score_that_is_success_has_the_intervals_of_proportions(tmp_path):
    a = write(tmp_path / "a", [1.0] * 10, score_name="success_rate")
    found = compare(a, a)
    assert found.differences["score"] == found.differences["success"]
    assert found.differences["score"].ci95 == pytest.approx((-0.2775, 0.2775), abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"environment": {**PUSHT, "id": "fork"}}, "the environment's id is 'pusht'"),
        ({"environment": {**PUSHT, "version": "gym-pusht 0.1.9"}}, "the environment's version"),
        ({"environment_options": {"size": 3}}, "the environment's options is {}"),
        (settings(max_steps=40), "the environment's max_steps is None"),
        (settings(reset={"goal": [1, 0]}), "the environment's reset is None"),
        (settings(success="task.success"), "the environment's success is None"),
    ],
)
def test_other_environments_are_refused_unless_forced(changed, said, tmp_path, scores):
    a = write(tmp_path / "a", scores, environment_settings={})
    b = write(tmp_path / "b", scores, **changed)
    with pytest.raises(ConfigError, match=said):
        compare(a, b)
    assert compare(a, b, force=True).pairs == 40


def test_what_a_policy_looks_at_and_what_an_old_file_does_not_say_is_no_difference(
    tmp_path, scores
):
    a = write(tmp_path / "a", scores, **settings(max_steps=40, observation={"state": "pose"}))
    b = write(tmp_path / "b", scores, **settings(max_steps=40, observation={"img": "camera"}))
    first_edition = write(tmp_path / "c", scores)
    assert compare(a, b).pairs == compare(a, first_edition).pairs == 40


def test_episodes_without_a_partner_are_left_out_and_told(tmp_path, scores, capsys):
    a = write(tmp_path / "a", scores)
    b = write(tmp_path / "b", scores, first_seed=35)
    found = compare(a, b)
    assert found.pairs == 5
    assert found.unpaired == ([*range(35)], [*range(40, 75)])
    assert main(["compare", str(a), str(b)]) == 0
    assert "35 of A's seeds have no partner: 0, 1, 2, 3, 4, ..." in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"seeds 0 to 39, .* 100 to 139: no episode has a partn"):
        compare(a, write(tmp_path / "c", scores, first_seed=100))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no list per_episode"),
        ('{"per_episode": []}', "no episodes"),
        ('{"per_episode": [{}]}', "the environment is missing"),
        ('{"environment": {}, "per_episode": [{}]}', "episode 0 has no seed"),
        ('{"environment": {}, "per_episode": [{"seed": 1}]}', "seed 1 has no max_reward"),
        ('{"environment": {}, "per_episode": [{"seed": 1, "max_reward": NaN}]}', "is nan"),
        (
            '{"environment": {}, "per_episode": [{"seed": 1, "max_reward": 1%s}]}' % (400 * "0"),
            "max_reward of seed 1 is 1",
        ),
        (
            '{"environment": {}, "per_episode": [{"seed": 1, "max_reward": 1}, {"seed": 1}]}',
            "seed 1 is there twice",
        ),
        ('{"environment": {}, "score_name": "x", "per_episode": [{"seed": 1}]}', "score_name"),
    ],
)
def test_a_damaged_file_is_named(text, said, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=said) as raised:
        compare(tmp_path, tmp_path)
    assert str(tmp_path / "metrics.json") in str(raised.value)


def test_what_is_no_evaluation_is_named(tmp_path, scores):
    folder = write(tmp_path / "a", scores)
    with pytest.raises(DataError, match="no such folder"):
        compare(folder, tmp_path / "b")
    with pytest.raises(DataError, match="give the output folder of `dipole evaluate`"):
        compare(folder, tmp_path)


def test_the_command_prints_each_against_the_first_and_writes_json(tmp_path, scores, capsys):
    folders = [
        write(tmp_path / name, scores + shift) for name, shift in (("a", 0.1), ("b", 0), ("c", 0.2))
    ]
    words = [*map(str, folders), "--json", str(tmp_path / "found.json")]
    assert main(["compare", *words]) == 0
    printed = capsys.readouterr().out
    assert f"C: {folders[2]}" in printed
    assert "A - C" in printed
    assert "A beats B by more than chance: max_reward +0.1" in printed
    assert "C beats A by more than chance: A - C is max_reward -0.1" in printed
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["better"] for each in found["comparisons"]] == ["first", "second"]
    assert found["comparisons"][1]["sentence"].startswith("C beats A")
    assert found["evaluations"][0]["score"]["value"] == pytest.approx(scores.mean() + 0.1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "EVAL_A"),
        (["{a}"], 2, "1 evaluations: two are needed"),
        (["{a}", "{a}/none"], 1, "there is no such folder"),
        (["{a}", "{a}", "--jso", "x"], 2, "did you mean '--json'"),
    ],
)
def test_a_command_line_that_cannot_work(words, code, said, tmp_path, scores, capsys):
    a = write(tmp_path / "a", scores)
    assert main(["compare", *(word.format(a=a) for word in words)]) == code
    captured = capsys.readouterr()
    assert said in captured.err + captured.out


def test_intervals_do_not_depend_on_the_order_of_episodes_in_a_file(tmp_path, scores):
    a, b = write(tmp_path / "a", scores), write(tmp_path / "b", np.sort(scores))
    before = compare(a, b)
    for folder in (a, b):
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["per_episode"].reverse()
        (folder / "metrics.json").write_text(json.dumps(metrics))
    assert compare(a, b) == before


def test_a_sweep_is_its_jobs_and_the_best_of_them_comes_first(tmp_path, scores, capsys):
    for job, more in ((0, 0.0), (2, 0.02), (10, 0.01)):
        write(tmp_path / str(job), scores + more)
    (tmp_path / "3").mkdir()  # one that failed
    (tmp_path / "sweep.json").write_text("[]")
    assert main(["compare", "--best", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    order = [said.index(f"{tmp_path / job} (") for job in ("2", "10", "0")]
    assert order == sorted(order)
    assert "A beats C by more than chance: max_reward +0.02" in said


def test_the_best_of_several_is_said_to_be_chosen_by_the_episodes_it_leads_in(
    tmp_path, scores, capsys
):
    folders = [str(write(tmp_path / str(n), scores + 0.01 * n)) for n in range(3)]
    chosen = "A is the best of 3 by these episodes, which makes its lead look larger than it is"
    assert main(["compare", "--best", *folders]) == 0
    assert chosen in capsys.readouterr().out
    assert main(["compare", *folders]) == 0
    assert "A is the best" not in capsys.readouterr().out


def test_what_differs_in_how_policies_were_executed_is_said_and_nothing_else(
    tmp_path, scores, capsys
):
    same = {"checkpoint": "run", "weights": "ema"}
    ddim, plms = {"name": "ddim", "steps": 10, "eta": 0.0}, {"name": "plms", "steps": 4}
    a = write(tmp_path / "a", scores, n_action_steps=8, solver=ddim, **same)
    b = write(tmp_path / "b", scores, n_action_steps=4, solver=plms, **same)
    c = write(tmp_path / "c", scores, solver="ddim", **same)  # as the first edition wrote it
    found = tmp_path / "found.json"
    assert main(["compare", *map(str, (a, b, c)), "--json", str(found)]) == 0
    printed = capsys.readouterr().out
    how = "n_action_steps=8, solver.name=ddim, solver.steps=10, solver.eta=0.0"
    assert f"A: {a} (run, {how})\n" in printed
    assert f"B: {b} (run, n_action_steps=4, solver.name=plms, solver.steps=4)\n" in printed
    assert f"C: {c} (run, solver.name=ddim)\n" in printed
    of_b = json.loads(found.read_text())["evaluations"][1]["differing"]
    assert of_b == {"n_action_steps": 4, "solver.name": "plms", "solver.steps": 4}
    assert main(["compare", str(a), str(a)]) == 0
    assert f"A: {a} (run)\n" in capsys.readouterr().out


def test_guidance_costs_part_and_merger_are_how_a_policy_was_executed(tmp_path, scores, capsys):
    cost = {"name": "obstacle", "centre": [1, 0], "scale": 10}
    a = write(tmp_path / "a", scores, checkpoint="run", merger="ensemble")
    b = write(tmp_path / "b", scores, checkpoint="run", guidance_scale=3, costs=[cost], part="lab")
    options = {"steps": 4}
    c = write(tmp_path / "c", scores, checkpoint="run", merger="ensemble", merger_options=options)
    found = tmp_path / "found.json"
    assert main(["compare", *map(str, (a, b, c)), "--json", str(found)]) == 0
    printed = capsys.readouterr().out
    costs = "costs=[{name:obstacle,centre:[1,0],scale:10}]"
    assert f"A: {a} (run, merger=ensemble)\n" in printed
    assert f"B: {b} (run, part=lab, guidance_scale=3, {costs})\n" in printed
    assert f"C: {c} (run, merger=ensemble, merger_options.steps=4)\n" in printed
    differing = [each["differing"] for each in json.loads(found.read_text())["evaluations"]]
    assert differing[1] == {"part": "lab", "guidance_scale": 3, "costs": [cost]}
    assert differing[2] == {"merger": "ensemble", "merger_options.steps": 4}
