"""The table of results."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents import evaluate, results
from agents.results import TABLE, Measured, markdown
from tt_gym.documents import insert
from tt_gym.tokens import SHIPPED_FOLDER, TokenMetadata, load, shipped_tokens

BEGIN, END = f"<!-- {TABLE} -->", f"<!-- /{TABLE} -->"
README = Path(__file__).parent.parent / "README.md"


def row(**changes: Any) -> Measured:
    metadata = TokenMetadata(
        env_id="TTStrike-v0",
        task="strike",
        parameters={},
        prompt=None,
        bfm="",
        command="",
        seed=0,
        steps=4_040_000,
        wall_clock_s=90.0 * 60.0,
    )
    paper = {"success_rate": 0.5, "ci95": [0.4, 0.6], "n": 1200}
    return Measured(
        "mine", metadata, **{"paper": paper, "training": paper, "without": paper, **changes}
    )


def test_a_row_by_hand():
    training = {"success_rate": None, "ci95": [0.0, 1.0], "n": 0}
    bare = {"success_rate": 0.125, "ci95": [0.1, 0.2], "n": 1200}
    line = "| mine | - | 50.0 % | 40.0 - 60.0 | 1,200 | 12.5 % | - | 76.6 % | 4.0 M | 90 min |"
    assert markdown([row(training=training, without=bare)]).splitlines()[2:] == [line]


def test_the_table_is_put_between_its_marks_and_nowhere_else():
    text = f"one\n{BEGIN}\nold\n{END}\ntwo\n"
    assert insert(text, TABLE, "new") == f"one\n{BEGIN}\nnew\n{END}\ntwo\n"


@pytest.mark.parametrize("text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n" * 2])
def test_a_text_without_marks_is_refused_before_anything_is_measured(text, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(SystemExit, match=rf"{path}: needs the lines {BEGIN} and {END}, once each"):
        results.main(["--write", str(path)])


def test_the_success_rate_goes_into_the_token_file_and_nothing_else_changes(tmp_path):
    path = tmp_path / "strike.safetensors"
    shutil.copy(SHIPPED_FOLDER / path.name, path)
    before = load(path)
    results.record(dataclasses.replace(row(), token="strike"), tmp_path)
    after = load(path)
    assert after.metadata == dataclasses.replace(before.metadata, success_rate=0.5)
    weights = after.encoder.state_dict()
    assert all(value.equal(weights[name]) for name, value in before.encoder.state_dict().items())


def test_unknown_tokens_are_refused():
    with pytest.raises(SystemExit, match="unknown token 'strik'; did you mean 'strike'"):
        results.main(["--tokens", "strik"])


def test_the_readme_has_a_row_for_every_shipped_token():
    table = README.read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert table[:2] == markdown([]).splitlines()
    found = {line.split(" | ")[0].removeprefix("| "): line for line in table[2:]}
    assert list(found) == shipped_tokens()
    for name, line in found.items():
        metadata = load(name).metadata
        trained = f"{metadata.steps / 1e6:.1f} M | {metadata.wall_clock_s / 60:.0f} min |"
        assert line.endswith(trained)


def test_the_numbers_are_those_of_evaluate(tmp_path):
    readme, mine = tmp_path / "README.md", tmp_path / "mine.json"
    readme.write_text(f"{BEGIN}\n{END}\n")
    common = ["--episodes", "2", "--seed", "3"]
    results.main([*common, "--tokens", "strike", "--json", str(mine), "--write", str(readme)])
    (found,) = json.loads(mine.read_text())["tokens"]
    bare = ["--token", "none", "--prompt", load("strike").metadata.prompt]
    for key, options in (("paper", []), ("training", ["--termination"]), ("without", bare)):
        theirs = tmp_path / f"{key}.json"
        evaluate.main(["--env", "TTStrike-v0", *common, *options, "--json", str(theirs)])
        expected = json.loads(theirs.read_text())
        assert found[key] == {name: expected[name] for name in found[key]}
    assert "| strike | " in readme.read_text()
