"""Watch a token act: a video, or a map of where it went where nothing can be rendered.

python -m agents.enjoy --env TTStrike-v0 --output strike.mp4
python -m agents.enjoy --env TTDirection-v0 --token runs/ppo/TTDirection-v0_1/token.safetensors
python -m agents.enjoy --env TTReach-v0 --token none --prompt hand_position --viewer
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import numpy as np

from agents.actors import Actor, add_arguments, choose
from agents.viewer import DisplayError, watch
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import count
from tt_gym.envs.rendering import FACING_LENGTH, RenderingError
from tt_gym.tasks import Goal

FORMATS = (".mp4", ".gif")
_GIF_STRIDE = 2  # browsers play no more than about 20 pictures per second
_MAX_ENVS = 9


def video_file(text: str) -> Path:
    """Path of a video, as an argparse type."""
    try:
        return _checked(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _checked(output: Path) -> Path:
    if output.suffix not in FORMATS:
        raise ValueError(f"output must end in {' or '.join(FORMATS)}, got {str(output)!r}")
    return output


def film(
    env_id: str,
    actor: Actor | None,
    output: Path,
    *,
    seed: int,
    episodes: int = 1,
    num_envs: int = 1,
    **env_kwargs: Any,
) -> Path:
    """Write a video of the first environment's ``episodes`` episodes, the others beside it.

    Without OpenGL a top view of the paths is drawn instead, as a PNG of the same name.

    Args:
        env_id: registered id.
        actor: gives the actions; None gives zeros (for ``control="prompt"``).
        output: ``.mp4`` or ``.gif``.
        seed: of start states and goals.
        episodes: how many.
        num_envs: 1 to 9, shown in a grid.
        env_kwargs: for ``gymnasium.make_vec``.

    Returns:
        The file written.

    Raises:
        ValueError: another suffix or ``num_envs``, or no episodes.
    """
    _checked(output)
    if not 1 <= num_envs <= _MAX_ENVS:
        raise ValueError(f"num_envs must be 1 to {_MAX_ENVS}, got {num_envs}")
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    output.parent.mkdir(parents=True, exist_ok=True)
    env: Any = gymnasium.make_vec(env_id, num_envs=num_envs, render_mode="rgb_array", **env_kwargs)
    try:
        return _write_video(env, actor, output, seed=seed, episodes=episodes)
    except RenderingError as error:
        print(f"no video: {error}")
        return _write_map(env, actor, output.with_suffix(".png"), seed=seed, episodes=episodes)
    finally:
        env.close()


def _write_video(env: Any, actor: Actor | None, path: Path, *, seed: int, episodes: int) -> Path:
    fps = env.metadata["render_fps"]
    stride = _GIF_STRIDE if path.suffix == ".gif" else 1
    observations, _ = env.reset(seed=seed)
    picture = grid(env.render())  # fails here, before a file is begun, where there is no OpenGL
    settings: dict[str, Any] = {"duration": 1000 * stride / fps, "loop": 0}
    if path.suffix == ".mp4":
        settings = {"fps": fps, "macro_block_size": 8}
    steps = 0
    writer: Any  # imageio's annotation lacks its methods
    with imageio.get_writer(path, **settings) as writer:
        writer.append_data(picture)
        while episodes > 0:
            observations, over = _step(env, actor, observations)
            episodes, steps = episodes - over, steps + 1
            if steps % stride == 0 and not over:  # then it would show the next start
                writer.append_data(grid(env.render()))
    return path


def _write_map(env: Any, actor: Actor | None, path: Path, *, seed: int, episodes: int) -> Path:
    """Top view: root paths, what was asked for, boxes before and after."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    observations, _ = env.reset(seed=seed)
    figure, axes = pyplot.subplots(figsize=(6, 6))
    root, boxes = [env.simulator.state.pos[:, 0, :2]], [env.simulator.state.object_pos[..., :2]]
    goals: list[Goal] = []
    starts = []
    while episodes > 0:
        goals.append(dict(env.goal))
        starts.append(env.steps == 0)
        observations, over = _step(env, actor, observations)
        episodes -= over
        # a restart puts the root back to the origin: it belongs to the next path
        root.append(env.simulator.state.pos[:, 0, :2])
        boxes.append(env.simulator.state.object_pos[..., :2])
    paths = np.stack(root[:-1])  # (T, N, 2)
    for index, started in enumerate(np.stack(starts, axis=1)):
        for path_of_episode in np.split(paths[:, index], np.flatnonzero(started)[1:]):
            axes.plot(*path_of_episode.T, color=f"C{index}", linewidth=1.5)
    draw_goals(axes, goals, paths)
    for moment, style in ((boxes[0], "s"), (boxes[-2], "x")):
        axes.plot(*moment.reshape(-1, 2).T, style, color="tab:brown")
    axes.set(xlabel="m", ylabel="m", title=f"{env.spec.id}: root path, seen from above")
    axes.set_aspect("equal", adjustable="datalim")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def draw_goals(axes: Any, goals: list[Goal], paths: np.ndarray) -> None:
    """What pictures show of goals, where it changed; see :data:`tt_gym.tasks.task.Goal`.

    Args:
        axes: of matplotlib.
        goals: of every step.
        paths: root positions at every step, (T, N, 2), where new arrows begin.
    """
    series = {key: np.stack([goal[key] for goal in goals]) for key in goals[0]}  # (T, N, ...)
    if "target" in series:
        axes.plot(*_different(series["target"][..., :2]).T, ".", color="tab:red", markersize=4)
    if "line" in series:
        for line in _different(series["line"].reshape(*paths.shape[:2], 4)):
            axes.plot(*line.reshape(2, 2).T, color="tab:red", linewidth=2)
    if "angle" in series and "speed" in series:
        _draw_arrows(axes, paths, series["angle"], series["speed"], colour="tab:green")
    if "facing" in series:
        length = np.full(paths.shape[:2], FACING_LENGTH)
        _draw_arrows(axes, paths, series["facing"], length, colour="tab:blue")


def _draw_arrows(
    axes: Any, paths: np.ndarray, angle: np.ndarray, length: np.ndarray, *, colour: str
) -> None:
    """An arrow at the root wherever angle (T, N), rad, or length (T, N), m, is a new one."""
    changed = np.ones(angle.shape, dtype=bool)
    changed[1:] = (angle[1:] != angle[:-1]) | (length[1:] != length[:-1])
    for moment in zip(*np.nonzero(changed & (length > 1e-3)), strict=True):
        ahead = length[moment] * np.array([np.cos(angle[moment]), np.sin(angle[moment])])
        axes.arrow(*paths[moment], *ahead, width=0.03, color=colour)


def _different(values: np.ndarray) -> np.ndarray:
    """Rows of (T, N, width) without repetitions, (M, width)."""
    return np.unique(values.reshape(-1, values.shape[-1]), axis=0)


def _step(env: Any, actor: Actor | None, observations: Any) -> tuple[Any, int]:
    """New observations, and whether the first environment's episode ended."""
    if actor is None:
        actions = np.zeros(env.action_space.shape, dtype=np.float32)
    else:
        actions = actor.act(observations)
    observations, _, terminated, truncated, _ = env.step(actions)
    return observations, int(terminated[0] or truncated[0])


def grid(pictures: tuple[np.ndarray, ...]) -> np.ndarray:
    """Pictures (H, W, 3) side by side in rows, the last row filled up with black."""
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    filled = [*pictures, *[np.zeros_like(pictures[0])] * (rows * columns - len(pictures))]
    return np.vstack(
        [np.hstack(filled[row * columns : (row + 1) * columns]) for row in range(rows)]
    )


def contact_sheet(video: Path, output: Path, *, columns: int = 4, rows: int = 3) -> Path:
    """A picture of evenly spaced frames of a video, at half their size."""
    frames = [np.asarray(frame)[::2, ::2, :3] for frame in imageio.mimread(video, memtest=False)]
    chosen = [frames[int(i)] for i in np.linspace(0, len(frames) - 1, columns * rows)]
    lines = [np.hstack(chosen[i : i + columns]) for i in range(0, columns * rows, columns)]
    imageio.imwrite(output, np.vstack(lines))
    return output


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.enjoy", description="Film or watch a token in action."
    )
    add_arguments(parser)
    parser.add_argument("--episodes", type=count, default=1)
    parser.add_argument("--num-envs", type=int, default=1, help="1 to 9, shown in a grid")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", type=video_file, help="*.mp4 or *.gif (default: ENV.mp4)")
    where.add_argument(
        "--viewer", action="store_true", help="show one environment in MuJoCo's window instead"
    )
    args = parser.parse_args(arguments)
    try:
        print(_show(args))
    except (CheckpointError, DisplayError, ValueError) as error:
        raise SystemExit(f"agents.enjoy: {error}") from error


def _show(args: argparse.Namespace) -> str:
    """What was asked for, and a line about it."""
    common = {"seed": args.seed, "episodes": args.episodes}
    if args.viewer and args.num_envs != 1:
        raise ValueError(f"--viewer shows one environment, got --num-envs {args.num_envs}")
    choice = choose(args)
    if args.viewer:
        return f"shown: {watch(args.env, choice.actor, **common, **choice.env_kwargs)} steps"
    output = args.output or Path(f"{args.env}.mp4")
    settings = {**common, "num_envs": args.num_envs, **choice.env_kwargs}
    return f"written: {film(args.env, choice.actor, output, **settings)}"


if __name__ == "__main__":
    main()
