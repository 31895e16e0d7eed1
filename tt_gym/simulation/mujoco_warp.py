"""MuJoCo Warp: the same model on a GPU (or, for tests, on Warp's CPU device).

Needs ``pip install 'tt-gym[warp]'``. Warp's arrays are torch tensors without a copy; states leave
as CPU tensors, like those of the other simulator. Compiling takes about half a minute, once.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from tt_gym.humanoids import Humanoid
from tt_gym.simulation.mujoco_cpu import MAX_SPEED, build_spec, check_start
from tt_gym.simulation.state import DECIMATION, BodyState, BoxObject, body_state

_CONTACTS = 64  # per environment; all bodies of a lying humanoid make about 40
_REMEMBERED = ("qpos", "qvel", "qacc_warmstart", "ctrl")


def _import_warp() -> tuple[Any, Any]:
    try:
        return importlib.import_module("warp"), importlib.import_module("mujoco_warp")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"simulator 'mujoco_warp' needs {error.name}: pip install 'tt-gym[warp]'"
        ) from error


class MujocoWarp:
    """The :class:`~tt_gym.simulation.state.Simulator` on MuJoCo Warp.

    Args:
        humanoid: what to simulate.
        num_envs: N >= 1.
        objects: free objects present in every environment.
        self_collision: let limbs collide with each other.
        device: of Warp, such as ``cuda:0`` or ``cpu``; None for the first GPU, else the CPU.

    Raises:
        ImportError: Warp or MuJoCo Warp is not installed; the text says how to.
        ValueError: ``num_envs`` is not a positive integer.
    """

    def __init__(
        self,
        humanoid: Humanoid,
        num_envs: int,
        *,
        objects: Sequence[BoxObject] = (),
        self_collision: bool = False,
        device: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self._warp, self._mjw = _import_warp()
        self._warp.config.log_level = self._warp.LOG_WARNING
        self._warp.init()
        if device is None:
            device = "cuda:0" if self._warp.get_cuda_device_count() else "cpu"
        self.device = device
        self.humanoid, self.num_envs, self.objects = humanoid, num_envs, tuple(objects)
        self.model = build_spec(humanoid, objects, self_collision=self_collision).compile()
        with self._warp.ScopedDevice(device):
            self._model = self._mjw.put_model(self.model)
            self._data = self._mjw.make_data(
                self.model, nworld=num_envs, nconmax=_CONTACTS, njmax=4 * _CONTACTS
            )
        self._arrays = {
            name: self._warp.to_torch(getattr(self._data, name))
            for name in (*_REMEMBERED, "xpos", "xquat", "cvel", "subtree_com", "sensordata")
        }
        self._graph: Any = None
        self._root_of_body = torch.from_numpy(self.model.body_rootid[1:].astype(np.int64))
        self._start = torch.from_numpy(self.model.qpos0.astype(np.float32)).to(self._qpos.device)
        self.diverged = torch.zeros(num_envs, dtype=torch.bool)
        self._call("forward")
        self.state = self._read_state()

    @property
    def _qpos(self) -> Tensor:
        return self._arrays["qpos"]

    @property
    def _qvel(self) -> Tensor:
        return self._arrays["qvel"]

    @property
    def qpos(self) -> Tensor:
        """Copy of the generalised positions, (N, nq), float32."""
        return self._qpos.to("cpu", copy=True)

    @property
    def qvel(self) -> Tensor:
        """Copy of the generalised velocities, (N, nv), float32."""
        return self._qvel.to("cpu", copy=True)

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        check_start(qpos, qvel)
        rows = ids.to(self._qpos.device)
        self._qpos[rows] = qpos.to(self._qpos)
        self._qvel[rows] = qvel.to(self._qpos)
        warm, sensors = self._arrays["qacc_warmstart"], self._arrays["sensordata"]
        warm[rows] = 0.0
        before = warm.clone(), sensors.clone()
        self._call("forward")
        others = torch.ones(self.num_envs, dtype=torch.bool, device=rows.device)
        others[rows] = False
        # the others keep the forces of their last step
        warm.copy_(before[0])
        sensors[others] = before[1][others]
        self.diverged[ids] = False
        self.state = self._read_state()

    def push(self, ids: Tensor, velocity: Tensor) -> None:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        self._qvel[ids.to(self._qvel.device), :3] += velocity.to(self._qvel)

    def step(self, pd_target: Tensor) -> BodyState:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        ctrl = self.humanoid.geodesic_ctrl(self.qpos, pd_target)
        self._arrays["ctrl"].copy_(ctrl)
        self.step_physics()
        healthy = self._qpos.isfinite().all(dim=1) & (self._qvel.abs() < MAX_SPEED).all(dim=1)
        self.diverged = ~healthy.cpu()
        if self.diverged.any():
            self._qpos[~healthy] = self._start
            self._qvel[~healthy] = 0.0
            self._arrays["qacc_warmstart"][~healthy] = 0.0
            self._arrays["sensordata"][~healthy] = 0.0
        # a step ends with new positions and velocities, not yet with those of the bodies
        for name in ("kinematics", "com_pos", "com_vel"):
            self._call(name)
        self.state = self._read_state()
        return self.state

    def step_physics(self) -> None:
        """One control step of bare physics with the current controls; ``state`` stays behind."""
        if self._graph is None and self.device.startswith("cuda"):
            self._physics_steps()  # compiles; a graph may only be captured of what is compiled
            with self._warp.ScopedDevice(self.device), self._warp.ScopedCapture() as capture:
                self._physics_steps()
            self._graph = capture.graph
        elif self._graph is not None:
            self._warp.capture_launch(self._graph)
        else:
            self._physics_steps()

    def _physics_steps(self) -> None:
        for _ in range(DECIMATION):
            self._call("step")

    def _call(self, name: str) -> None:
        with self._warp.ScopedDevice(self.device):
            getattr(self._mjw, name)(self._model, self._data)

    def get_state(self) -> np.ndarray:
        """Everything that physics remembers, (N, nstate), for :meth:`set_state`."""
        return torch.cat([self._arrays[name] for name in _REMEMBERED], dim=1).cpu().numpy()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what :meth:`get_state` gave, bit for bit.

        Raises:
            ValueError: the shape is that of another model or number of environments.
        """
        widths = [self._arrays[name].shape[1] for name in _REMEMBERED]
        if state.shape != (self.num_envs, sum(widths)):
            raise ValueError(
                f"state must have shape {(self.num_envs, sum(widths))}, got {state.shape}: "
                "it was saved with another num_envs, model or simulator"
            )
        parts = torch.from_numpy(state).split(widths, dim=1)
        for name, part in zip(_REMEMBERED, parts, strict=True):
            self._arrays[name].copy_(part)
        self._call("forward")
        self._arrays["qacc_warmstart"].copy_(parts[2])  # forward touches it
        self.diverged = ~(self._qvel.abs() < MAX_SPEED).all(dim=1).cpu()
        self.state = self._read_state()

    def data(self, index: int, reuse: mujoco.MjData | None = None) -> mujoco.MjData:
        """One environment's ``MjData``, for rendering."""
        data = mujoco.MjData(self.model) if reuse is None else reuse
        data.qpos[:], data.qvel[:] = self.qpos[index].numpy(), self.qvel[index].numpy()
        mujoco.mj_forward(self.model, data)
        return data

    def ground_height(self, place: Tensor) -> Tensor:
        """Height (N, ...) of the ground at world places (N, ..., 2), m: it is flat here."""
        return torch.zeros_like(place[..., 0])

    def _read_state(self) -> BodyState:
        def now(name: str) -> Tensor:
            return self._arrays[name].to("cpu", copy=True)

        return body_state(
            pos=now("xpos")[:, 1:],
            rot=now("xquat")[:, 1:],
            spatial_velocity=now("cvel")[:, 1:],
            centre=now("subtree_com")[:, self._root_of_body],
            forces=now("sensordata"),
            num_bodies=self.humanoid.num_bodies,
        )
