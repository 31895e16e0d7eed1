"""Brings perturbations into a running batch of environments."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.envs.perturbations import Perturbations
from tt_gym.names import unknown
from tt_gym.simulation import BodyState, MujocoCpu
from tt_gym.simulation.state import CONTROL_DT

NO_FRICTION = 0.01
"""Coefficients below count as none: MuJoCo's friction cone gets too narrow to be solved for."""


class Perturber:
    """Perturbs a batch of environments.

    The calls in order: :meth:`begin_episodes` before physics is reset, then in every step
    :meth:`delay` and :meth:`push` before physics moves and :meth:`draw_noise` after;
    :meth:`measure` wherever something looks at the state.

    Args:
        perturbations: with at least one that changes something.
        simulator: whose physics to change.

    Raises:
        ValueError: ``mass`` names a body that the humanoid has not.
    """

    def __init__(self, perturbations: Perturbations, simulator: MujocoCpu) -> None:
        self.simulator, self.ranges = simulator, perturbations.ranges()
        humanoid, count = simulator.humanoid, simulator.num_envs
        for name in self.ranges:
            kind, _, body = name.partition("/")
            if body and body not in humanoid.body_names:
                raise ValueError(
                    f"perturbations: {unknown(f'body in {kind}', body, humanoid.body_names)}"
                )
        self.values = {name: torch.zeros(count) for name in self.ranges}
        self._usual = {
            name: simulator.parameter(name)[0].copy() for name in self._changed_parameters()
        }
        self.episode_generator, self.step_generator = torch.Generator(), torch.Generator()
        self.terrain, self.level = simulator.terrain, torch.zeros(count, dtype=torch.long)
        self._queue = torch.zeros(0)  # PD targets on their way, newest first, (L, N, D)
        if "latency_steps" in self.ranges:
            depth = 1 + int(self.ranges["latency_steps"][1])
            self._queue = torch.zeros(depth, count, humanoid.num_dofs)
        self._noise = torch.zeros(0)  # standard, (N, B + K, 12)
        if "observation_noise" in self.ranges:
            measured = humanoid.num_bodies + len(simulator.objects)
            self._noise = torch.zeros(count, measured, 12)

    def _changed_parameters(self) -> list[str]:
        names: list[str] = []
        names += [name for name in ("gravity", "friction") if name in self.ranges]
        names += ["contact_dimension"] if "friction" in self.ranges else []
        if any(name.startswith("mass") for name in self.ranges):
            names += ["body_mass", "body_inertia"]
        return names

    def seed(self, random: np.random.Generator) -> None:
        """Begin the own random sequences."""
        for generator in (self.episode_generator, self.step_generator):
            generator.manual_seed(int(random.integers(2**62)))

    def drawn(self) -> dict[str, Tensor]:
        """This episode's values of what is drawn from a range, (N,) each."""
        return {
            name: self.values[name].clone()
            for name, (low, high) in self.ranges.items()
            if low < high
        }

    # ---- episodes -------------------------------------------------------------------------------

    def begin_episodes(self, ids: Tensor, qpos: Tensor) -> Tensor:
        """New values for some environments.

        Args:
            ids: (R,) indices.
            qpos: start states for flat ground, (R, nq).

        Returns:
            Start states on the ground as it is now.
        """
        for name, (low, high) in self.ranges.items():
            share = torch.rand(len(ids), generator=self.episode_generator)
            value = low + (high - low) * share
            if name == "latency_steps":
                value = low + ((high - low + 1.0) * share).floor()
            if self.terrain is not None and name == self.terrain.kind:
                measures = torch.tensor(self.terrain.measures)
                self.level[ids] = (len(measures) * share).long().clamp(max=len(measures) - 1)
                value = measures[self.level[ids]]
            self.values[name][ids] = value
        self._change_physics(ids)
        if len(self._queue):
            humanoid = self.simulator.humanoid
            pose = humanoid.joint_rot_from_qpos(qpos[:, : humanoid.nq])
            self._queue[:, ids] = humanoid.pd_target_from_pose(pose)
        if len(self._noise):
            self._noise[ids] = torch.randn(
                len(ids), *self._noise.shape[1:], generator=self.episode_generator
            )
        if self.terrain is not None:
            return self._on_terrain(ids, qpos)
        return self._on_slope(ids, qpos) if "slope_deg" in self.ranges else qpos

    def _change_physics(self, ids: Tensor) -> None:
        """Bring the values of some environments into the simulator."""
        rows = ids.numpy()
        for name in ("gravity", "friction"):
            if name in self.ranges:
                usual = self._usual[name]
                factor = self.values[name][ids].double().numpy()
                factor = factor.reshape(-1, *[1] * usual.ndim)
                self.simulator.parameter(name)[rows] = factor * usual
        if "friction" in self.ranges:
            dimension = self.simulator.parameter("contact_dimension")
            without = (self.values["friction"][ids] < NO_FRICTION).numpy()
            dimension[rows] = np.where(without[:, None], 1, self._usual["contact_dimension"])
        if "body_mass" in self._usual:
            factor = self._mass_factors(ids).double().numpy()
            for name in ("body_mass", "body_inertia"):
                usual = self._usual[name]
                columns = factor.reshape(*factor.shape, *[1] * (usual.ndim - 1))
                self.simulator.parameter(name)[rows] = columns * usual
            self.simulator.update_constants()
        if "slope_deg" in self.ranges:
            self.simulator.tilt_ground(ids, torch.deg2rad(self.values["slope_deg"][ids]))
        if self.terrain is not None:
            self.simulator.choose_terrain(ids, self.level[ids])

    def _mass_factors(self, ids: Tensor) -> Tensor:
        """Of MuJoCo's bodies: the world, the humanoid's, objects: (R, 1 + B + K)."""
        humanoid = self.simulator.humanoid
        factors = torch.ones(len(ids), self.simulator.model.nbody)
        for name, value in self.values.items():
            kind, _, body = name.partition("/")
            if kind == "mass":
                first, last = 0, humanoid.num_bodies
                if body:
                    first = humanoid.body_index(body)
                    last = first + 1
                factors[:, 1 + first : 1 + last] = value[ids].unsqueeze(-1)
        return factors

    def _on_terrain(self, ids: Tensor, qpos: Tensor) -> Tensor:
        """Humanoid and objects lifted until no foot and no object is below the ground."""
        assert self.terrain is not None
        humanoid, qpos, level = self.simulator.humanoid, qpos.clone(), self.level[ids]
        own = qpos[:, : humanoid.nq]
        bodies, *_ = humanoid.forward_kinematics(own, torch.zeros(len(ids), humanoid.nv))
        feet = bodies[:, list(humanoid.feet), :2]
        qpos[:, 2] += self.terrain.highest(feet, level).amax(dim=-1)
        for start in range(humanoid.nq, qpos.shape[1], 7):
            qpos[:, start + 2] += self.terrain.highest(qpos[:, start : start + 2], level)
        return qpos

    def _on_slope(self, ids: Tensor, qpos: Tensor) -> Tensor:
        """The humanoid lifted until no foot is below the slope, objects turned with it."""
        humanoid, qpos = self.simulator.humanoid, qpos.clone()
        slope = torch.deg2rad(self.values["slope_deg"][ids])
        own = qpos[:, : humanoid.nq]
        bodies, *_ = humanoid.forward_kinematics(own, torch.zeros(len(ids), humanoid.nv))
        feet = bodies[:, list(humanoid.feet), 0]
        qpos[:, 2] += (slope.tan().unsqueeze(-1) * feet).amax(dim=-1)
        turn = rotations.quat_from_exp_map(torch.tensor([0.0, -1.0, 0.0]) * slope.unsqueeze(-1))
        up = rotations.rotate(turn, torch.tensor([0.0, 0.0, 1.0]).expand(len(ids), 3))
        for start in range(humanoid.nq, qpos.shape[1], 7):
            pos, rot = slice(start, start + 3), slice(start + 3, start + 7)
            height = qpos[:, start + 2 : start + 3].clone()
            qpos[:, start + 2] = slope.tan() * qpos[:, start]
            qpos[:, pos] += height * up
            qpos[:, rot] = rotations.quat_multiply(turn, qpos[:, rot])
        return qpos

    # ---- steps ----------------------------------------------------------------------------------

    def delay(self, pd_target: Tensor) -> Tensor:
        """The PD targets (N, D) that reach the motors while ``pd_target`` sets out."""
        if not len(self._queue):
            return pd_target
        self._queue = torch.cat((pd_target.unsqueeze(0), self._queue[:-1]))
        return self._queue[self.values["latency_steps"].long(), torch.arange(len(pd_target))]

    def push(self) -> None:
        """Push some environments, maybe."""
        if "push_speed" not in self.ranges:
            return
        count = self.simulator.num_envs
        chance, turn = torch.rand(2, count, generator=self.step_generator)
        ids = (chance < self.values["push_rate"] * CONTROL_DT).nonzero().flatten()
        if len(ids):
            velocity = torch.zeros(len(ids), 3)
            direction = rotations.direction_xy(2.0 * math.pi * turn[ids])
            velocity[:, :2] = self.values["push_speed"][ids].unsqueeze(-1) * direction
            self.simulator.push(ids, velocity)

    def draw_noise(self) -> None:
        """New noise for the state after a step."""
        if len(self._noise):
            self._noise = torch.randn(self._noise.shape, generator=self.step_generator)

    def measure(self, state: BodyState) -> BodyState:
        """The state of all environments as it is seen: with the same noise until the next draw."""
        if not len(self._noise):
            return state
        noise = self.values["observation_noise"].view(-1, 1, 1) * self._noise
        bodies = state.pos.shape[1]
        parts = [*noise[:, :bodies].split(3, dim=-1), *noise[:, bodies:].split(3, dim=-1)]
        return dataclasses.replace(
            state,
            pos=state.pos + parts[0],
            rot=_turned(state.rot, parts[1]),
            vel=state.vel + parts[2],
            ang_vel=state.ang_vel + parts[3],
            object_pos=state.object_pos + parts[4],
            object_rot=_turned(state.object_rot, parts[5]),
            object_vel=state.object_vel + parts[6],
            object_ang_vel=state.object_ang_vel + parts[7],
        )

    # ---- resuming -------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """As checkpoint content."""
        return {
            "values": {name: value.clone() for name, value in self.values.items()},
            "level": self.level.clone(),
            "queue": self._queue.clone(),
            "noise": self._noise.clone(),
            "episode_generator": self.episode_generator.get_state(),
            "step_generator": self.step_generator.get_state(),
        }

    def set_state(self, saved: dict[str, Any]) -> None:
        """Inverse of :meth:`get_state`; to be called before physics is restored.

        Raises:
            ValueError: it was taken with other perturbations.
        """
        if saved["values"].keys() != self.values.keys():
            raise ValueError(
                f"the state was saved with perturbations {list(saved['values'])}, not "
                f"{list(self.values)}"
            )
        self.values = {name: value.clone() for name, value in saved["values"].items()}
        self.level = saved["level"].clone()
        self._queue, self._noise = saved["queue"].clone(), saved["noise"].clone()
        self.episode_generator.set_state(saved["episode_generator"])
        self.step_generator.set_state(saved["step_generator"])
        self._change_physics(torch.arange(self.simulator.num_envs))


def _turned(rot: Tensor, by: Tensor) -> Tensor:
    """Rotations (..., 4) turned by rotation vectors (..., 3), rad, world."""
    return rotations.quat_multiply(rotations.quat_from_exp_map(by), rot)
