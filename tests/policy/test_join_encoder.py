"""Encoders that join: which part encodes what, where its numbers go, what may be replaced."""

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from eyes_fixture import SMALL_UNET, TINY_RESNET, WINDOW

from dipole.data import ConfigError, Feature, Features, encode_text
from dipole.policy import Policy, PolicyConfig
from dipole.policy.context import Context
from dipole.policy.core.components import ENCODERS, build
from dipole.policy.diffusion.costs import CostTerm
from dipole.policy.diffusion.solvers import DDIM
from dipole.policy.encoders.text.words import hashed_words, powers
from dipole.policy.runtimes.export import export_policy
from dipole.policy.runtimes.exported import load_exported

CAMERA = {"name": "cameras", "backbone": TINY_RESNET, "dim": 6}
OBSERVED = {
    "agent_pos": Feature((2,)),
    "front": Feature((32, 32, 3), kind="image"),
    "force": Feature((3,)),
    "instruction": Feature((16,), kind="text"),
}
ACTION = Feature((2,), kind="action")
ALL = Features(OBSERVED, ACTION)


def encoder_of(observed=None, **parts):
    torch.manual_seed(0)
    features = ALL if observed is None else Features(observed, ACTION)
    return build(ENCODERS, {"name": "join", "parts": parts}, features=features, window=WINDOW)


def texts(*words, size=16, rows=None):
    encoded = torch.stack([torch.from_numpy(encode_text(word, size)) for word in words])
    return encoded[:, None].expand(-1, 2, -1)


def observation(rows=3):
    return {
        "agent_pos": torch.randn(rows, 2, 2),
        "front": torch.randint(256, (rows, 2, 32, 32, 3), dtype=torch.uint8),
        "force": torch.randn(rows, 2, 3),
        "instruction": texts(*["go left"] * rows),
    }


def test_vectors_are_joined_frame_by_frame_and_then_come_the_others():
    parts = {"text": {"name": "words", "dim": 4}, "cameras": CAMERA, "state": {"name": "state"}}
    encoder = encoder_of(**parts).eval()
    seen = observation()
    vector = encoder(seen).vector
    found = encoder.contexts(seen)
    assert encoder.spec.vector_dim == 2 * (6 + 5) + 4
    by_frame = vector[:, :22].view(3, 2, 11)
    assert torch.equal(by_frame[:, :, :6], found["cameras"].vector.view(3, 2, 6))
    assert torch.equal(by_frame[:, :, 6:8], seen["agent_pos"])
    assert torch.equal(by_frame[:, :, 8:], seen["force"])
    assert torch.equal(vector[:, 22:], found["text"].vector)


def test_inputs_name_what_a_part_encodes():
    encoder = encoder_of(
        {name: OBSERVED[name] for name in ("agent_pos", "force")},
        label={"name": "state", "inputs": ["force"]},
        rest={"name": "state"},
    )
    assert {name: part.names for name, part in encoder.encoders.items()} == {
        "label": ("force",),
        "rest": ("agent_pos",),
    }


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "parts is empty"),
        ({"state": {"name": "state"}, "cameras": CAMERA}, "no part .* encodes 'instruction'"),
        ({"a": {"name": "state"}, "b": {"name": "state"}}, "a and b .* both take 'agent_pos'"),
        ({"a": {"name": "state", "inputs": ["froce"]}}, "no observation 'froce', did you mean"),
        ({"a": {"name": "stat"}}, "unknown encoder 'stat'"),
        ({"a": {"name": "state", "inputs": [*OBSERVED]}}, "cannot encode front, instruction"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ConfigError, match=message):
        encoder_of(**parts)


def test_tokens_of_parts_have_one_size():
    parts = {"cameras": {**CAMERA, "token_dim": 8}, "state": {"name": "state"}}
    text = {"name": "words", "token_dim": 8}
    encoder = encoder_of(**parts, text=text).eval()
    context = encoder(observation())
    assert encoder.spec.token_dim == 8
    assert context.tokens.shape == (3, 2 * 16 + 8, 8)
    assert context.token_mask.sum(1).tolist() == [32 + 2] * 3
    with pytest.raises(ConfigError, match="tokens of 8 and 12 numbers"):
        encoder_of(**parts, text={**text, "token_dim": 12})


sizes = st.integers(1, 4)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_join_holds_every_part_and_the_masks_follow(data):
    rows, dim = data.draw(sizes), data.draw(sizes)
    contexts = []
    for _ in range(data.draw(st.integers(1, 3))):
        count = data.draw(st.integers(0, 3))
        tokens = torch.randn(rows, count, dim) if count else None
        masked = count and data.draw(st.booleans())
        mask = torch.rand(rows, count) < 0.5 if masked else None
        contexts.append(Context(torch.randn(rows, data.draw(sizes)), tokens, mask))
    joined = Context.join(contexts)
    assert torch.equal(joined.vector, torch.cat([each.vector for each in contexts], 1))
    wanted = [each for each in contexts if each.tokens is not None]
    if not wanted:
        assert joined.tokens is None
        return
    assert torch.equal(joined.tokens, torch.cat([each.tokens for each in wanted], 1))
    counted = [
        torch.ones(each.tokens.shape[:2]) if each.token_mask is None else each.token_mask.float()
        for each in wanted
    ]
    if joined.token_mask is None:
        assert all(each.token_mask is None for each in wanted)
    else:
        assert torch.equal(joined.token_mask.float(), torch.cat(counted, 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.data())
def test_where_takes_each_row_from_one_side_with_its_tokens(rows, mine, theirs, masked, data):
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    mask = torch.rand(rows, mine) < 0.5 if masked else None
    one = Context(torch.randn(rows, 3), torch.randn(rows, mine, 2), mask)
    other = Context(torch.randn(rows, 3), torch.randn(rows, theirs, 2))
    chosen = one.where(keep, other)
    for row in range(rows):
        source, count = (one, mine) if keep[row] else (other, theirs)
        assert torch.equal(chosen.vector[row], source.vector[row])
        assert torch.equal(chosen.tokens[row, :count], source.tokens[row])
        if chosen.token_mask is not None:
            own = torch.ones(count) if source.token_mask is None else source.token_mask[row]
            assert torch.equal(chosen.token_mask[row, :count].float(), own.float())
            assert not chosen.token_mask[row, count:].any()


def test_only_named_parts_are_replaced_by_their_null():
    parts = {"text": {"name": "words", "dim": 4}, "cameras": CAMERA, "state": {"name": "state"}}
    encoder = encoder_of(**parts).eval()
    assert not list(encoder.nulls)
    encoder.add_nulls(["text"])
    seen = observation()
    found, changed = encoder.contexts(seen), encoder.contexts({**seen, **{"force": -seen["force"]}})
    null = encoder.unconditional(found)
    assert torch.equal(null.vector[:, :22], encoder.compose(found).vector[:, :22])
    assert torch.equal(null.vector[:, 22:], torch.zeros(3, 4))
    assert not torch.equal(encoder.unconditional(changed).vector, null.vector)
    with pytest.raises(ConfigError, match="no part 'txt', did you mean 'text'"):
        encoder.add_nulls(["txt"])


def test_a_null_of_all_parts_does_not_depend_on_the_observation():
    encoder = encoder_of(
        **{"cameras": {**CAMERA, "token_dim": 8}, "state": {"name": "state"}},
        text={"name": "words", "token_dim": 8},
    ).eval()
    encoder.add_nulls(None)
    one, other = (encoder.unconditional(encoder.contexts(observation())) for _ in range(2))
    assert torch.equal(one.vector, other.vector)
    assert one.tokens.shape == (3, 2, 8)
    assert torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("name", ["words", "bytes"])
def test_longer_padding_changes_no_text(name):
    """The same network, given the same words in a shorter and in a longer array."""
    build_text = lambda size: build(  # noqa: E731
        ENCODERS,
        {"name": name, "dim": 4, "token_dim": 8},
        features=Features({"text": Feature((size,), kind="text")}, ACTION),
        window=WINDOW,
    )
    torch.manual_seed(0)
    long, short = build_text(40), build_text(10)
    weights = dict(long.state_dict())
    weights["places"] = weights["places"][: len(short.places)]
    short.load_state_dict(weights)
    few = short({"text": texts("go left", "up", size=10)})
    more = long({"text": texts("go left", "up", size=40)})
    assert torch.allclose(few.vector, more.vector, atol=1e-6)
    kept = few.tokens.shape[1]
    assert torch.equal(few.token_mask, more.token_mask[:, :kept])
    assert not more.token_mask[:, kept:].any()
    counted = few.token_mask
    assert torch.allclose(few.tokens[counted], more.tokens[:, :kept][counted], atol=1e-6)


@pytest.mark.parametrize("name", ["words", "bytes"])
def test_texts_are_told_apart_and_a_missing_one_is_empty(name):
    encoder = encoder_of({"text": Feature((32,), kind="text")}, text={"name": name, "dim": 4})
    seen = {"text": texts("red on blue", "blue on red", "", size=32)}
    vectors = encoder(seen).vector
    assert (vectors[0] - vectors[1]).abs().max() > 1e-5
    missing = {"text": torch.tensor([True, False, False])}
    lacking = encoder(seen, missing).vector
    assert torch.equal(lacking[0], vectors[2])
    assert torch.equal(lacking[1], vectors[1])


words = st.lists(st.text("abcXYZ0189é", min_size=1, max_size=4), max_size=6)


@given(words, st.lists(st.sampled_from(" .,-'"), min_size=1, max_size=3))
def test_words_are_hashed_alone_whatever_lies_between_them(found, between):
    def polynomial(word: str) -> int:
        values = bytes(b + 32 if 65 <= b <= 90 else b for b in word.encode())
        return sum(byte * 257**n for n, byte in enumerate(values)) % 1_000_003

    text = "".join(between).join(found)
    size = max(len(text.encode()), 1) + 3
    row = torch.from_numpy(encode_text(text, size)).long()[None]
    hashes, mask = hashed_words(row, powers(size))
    assert hashes[mask].tolist() == [polynomial(word) for word in found]


def text_policy(parts) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(encoder={"name": "join", "parts": parts}, denoiser=SMALL_UNET)
    features = Features({n: OBSERVED[n] for n in ("agent_pos", "instruction")}, ACTION)
    return Policy(config, features, WINDOW)


def test_a_policy_learns_from_words_and_takes_strings():
    policy = text_policy({"state": {"name": "state"}, "text": {"name": "words"}})
    batch = policy.fake_batch(4)
    loss = policy.loss(batch)
    getattr(loss, "total", loss).backward()
    text = policy.encoder.parts["text"]
    assert text.embedding.weight.grad.abs().sum() > 0
    policy.eval()
    pose = torch.zeros(2, 2, 2)
    generator = torch.Generator().manual_seed(0)
    said = {"agent_pos": pose, "instruction": ["left", "right"]}
    chunk = policy.predict(said, generator)
    encoded = {"agent_pos": pose, "instruction": texts("left", "right")}
    assert torch.equal(chunk, policy.predict(encoded, torch.Generator().manual_seed(0)))
    with pytest.raises(ConfigError, match="text is uint8"):
        policy.predict({"agent_pos": pose, "instruction": torch.zeros(2, 2, 16)})


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["words", "bytes"])
def test_text_goes_through_exports(name, tmp_path):
    pytest.importorskip("onnxruntime")
    text = {"name": name, "dim": 4}
    policy = text_policy({"state": {"name": "state"}, "text": text}).eval()
    policy.solver = DDIM(steps=1)
    schema = export_policy(policy, "onnx", tmp_path / "export")
    assert schema["parity"]["largest_difference"] <= 1e-4
    exported = load_exported(tmp_path / "export")
    said = {"agent_pos": torch.zeros(3, 2, 2), "instruction": ["left", "to the right", ""]}
    noise = torch.randn(3, 8, 2)
    ours, theirs = (each.predict(said, noise=noise) for each in (policy, exported))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_the_encoder_and_the_cost_of_the_pages_work_as_they_stand():
    docs = Path(__file__).resolve().parents[2] / "docs"
    page = (docs / "architecture.md").read_text()
    names: dict = {}
    exec(re.search(r"## An encoder of one's own.*?```python\n(.*?)```", page, re.DOTALL)[1], names)
    observed = {"keypoint": Feature((9, 2)), "agent_pos": Feature((2,))}
    parts = {"contour": {"name": "contour", "inputs": ["keypoint"], "token_dim": 8}}
    encoder = encoder_of(observed, **parts, state={"name": "state"})
    context = encoder({"keypoint": torch.randn(3, 2, 9, 2), "agent_pos": torch.randn(3, 2, 2)})
    assert context.vector.shape == (3, encoder.spec.vector_dim) == (3, 2 + 2 * 2)
    assert context.tokens.shape == (3, 18, 8)
    page = (docs / "guidance.md").read_text()
    exec(re.search(r"### A cost of your own\n```python\n(.*?)```", page, re.DOTALL)[1], names)
    term = CostTerm.from_dict({"name": "keep_low", "limit": 0.5, "index": 0})
    assert term.cost(torch.tensor([[[0.0], [1.5]], [[0.5], [0.0]]])).tolist() == [1.0, 0.0]
