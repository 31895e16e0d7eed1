"""Made leaps out of a run."""

import itertools

import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.clip import FPS, load_clip, unroll
from tt_gym.motions.leaping import flights, leap, main, random_leaps
from tt_gym.motions.limbs import world_pose
from tt_gym.motions.shipped import shipped_clip


@pytest.fixture(scope="module")
def run():
    return unroll(shipped_clip("run"), 4.0)


def test_a_flight_lasts_as_long_as_asked(run):
    first, last = flights(run)[3]
    made = leap(run, first, last, 0.4)
    begins, ends = flights(made)[3]
    assert begins == pytest.approx(first, abs=2)
    assert (ends - begins + 2) / FPS == pytest.approx(0.4, abs=2.1 / FPS)
    # in the air the root falls freely
    height = made.root_pos[first : first + 10, 2].double()
    bend = (height[2:] - 2.0 * height[1:-1] + height[:-2]) * FPS**2
    torch.testing.assert_close(bend, torch.full_like(bend, -9.81), atol=0.02, rtol=0.0)


def test_the_run_around_a_leap_is_as_it_was(run):
    first, last = flights(run)[3]
    made = leap(run, first, last, 0.45)
    before = first - 12
    assert torch.equal(made.root_pos[:before], run.root_pos[:before])
    turned = rotations.rotation_angle(made.joint_rot[:before], run.joint_rot[:before])
    assert float(turned.max()) < 1e-3
    # behind it everything is farther on, nothing is turned or higher
    later = made.num_frames - run.num_frames
    moved = made.root_pos[last + 12 + later :] - run.root_pos[last + 12 :]
    assert float((moved - moved[0]).abs().max()) < 1e-4
    assert float(moved[0, 2]) == pytest.approx(0.0, abs=1e-4)
    assert float(moved[0, :2].norm()) > 0.8
    # no jerk where the pieces meet: a run speeds up by less than 40 m/s^2 from frame to frame
    speed = made.root_pos[:, :2].diff(dim=0) * FPS
    assert float(speed.diff(dim=0).norm(dim=-1).max() * FPS) < 40.0


def test_feet_stay_on_the_ground_while_the_root_sinks_for_the_push(run):
    first, last = flights(run)[3]
    made = leap(run, first, last, 0.5)
    pos, rot = (
        world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
        for clip in (run, made)
    )
    push = slice(first - 7, first - 1)
    feet = list(DEEPMIMIC.feet)
    assert float((run.root_pos[push, 2] - made.root_pos[push, 2]).max()) > 0.02
    assert float((pos[0][push][:, feet] - rot[0][push][:, feet]).norm(dim=-1).max()) < 0.02


def test_a_flight_too_near_an_end_is_refused(run):
    first, last = flights(run)[0]
    short = type(run)(
        "short", run.root_pos[: last + 4], run.joint_rot[: last + 4], False, run.source
    )
    with pytest.raises(ValueError, match="frames before and after"):
        leap(short, first, last, 0.4)


def test_clips_say_when_they_leap():
    clips = random_leaps(count=4, seed=0)
    assert [clip.name for clip in clips] == [f"actions_leap_0_{index}" for index in range(4)]
    for clip in clips:
        assert [name for _, name in clip.behaviours] == ["run", "jump", "run", "jump", "run"]
        starts = [first for first, _ in clip.behaviours]
        longest = {
            (begin, end): max(b - a + 1 for a, b in flights(clip) if begin <= a < end)
            for begin, end in itertools.pairwise([*starts, clip.num_frames])
        }
        assert [frames > 5 for frames in longest.values()] == [False, True, False, True, False]
    with pytest.raises(ValueError, match="count"):
        random_leaps(count=0)


def test_the_command_writes_them(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "2", "--seed", "5"])
    assert "2 clips" in capsys.readouterr().out
    same = random_leaps(count=2, seed=5)[1]
    assert torch.equal(load_clip(tmp_path / f"{same.name}.npz").root_pos, same.root_pos)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--count", "0"])
