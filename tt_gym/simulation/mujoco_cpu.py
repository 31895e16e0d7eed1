"""MuJoCo on the CPU: a batch of simulations stepped in C++ threads."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from torch import Tensor

from tt_gym.humanoids import Humanoid
from tt_gym.humanoids.humanoid import FLOOR_BIT, LIMB_BIT, OBJECT_BIT
from tt_gym.simulation.state import DECIMATION, TIMESTEP, BodyState, BoxObject, body_state
from tt_gym.simulation.terrain import NAME as TERRAIN
from tt_gym.simulation.terrain import Terrain

_DIVERGENCE_WARNINGS = [
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
]
_MAX_STATE = 1e10  # MuJoCo silently replaces what is larger
MAX_SPEED = 1e3
"""rad/s or m/s: far above anything a humanoid does, long before MuJoCo's own 1e10."""
_PARAMETERS = {
    "gravity": "opt.gravity",
    "friction": "geom_friction",
    "contact_dimension": "geom_condim",
    "body_mass": "body_mass",
    "body_inertia": "body_inertia",
}


@functools.cache
def _quiet_warnings() -> None:
    """Divergence is counted by us; MuJoCo would also print it and write MUJOCO_LOG.TXT."""
    config = mujoco.MjLogConfig.get()
    config.logto_console = config.logto_file = False
    mujoco.MjLogConfig.set(config)


def build_spec(
    humanoid: Humanoid,
    objects: Sequence[BoxObject] = (),
    *,
    self_collision: bool = False,
    terrain: Terrain | None = None,
) -> mujoco.MjSpec:
    """The MuJoCo model: floor, humanoid, objects and contact sensors; a terrain lies on the floor.

    Returns:
        A spec to compile; sensors come in the order net force per body, then force of each object
        on each body.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.iterations = 10
    spec.option.ls_iterations = 10
    spec.visual.global_.offwidth = spec.visual.global_.offheight = 2048
    _add_floor(spec)
    if terrain is not None:
        terrain.add_to(spec)
    humanoid.add_to(spec, self_collision=self_collision)
    for item in objects:
        node = spec.worldbody.add_body(name=item.name, pos=[2.0, 0.0, item.half_size[2]])
        node.add_freejoint(name=item.name)
        node.add_geom(
            name=item.name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=item.half_size,
            density=item.density,
            contype=OBJECT_BIT,
            conaffinity=FLOOR_BIT | LIMB_BIT | OBJECT_BIT,
            rgba=item.rgba,
        )
    for name in humanoid.body_names:
        _add_contact_sensor(spec, on=name)
    for item in objects:
        for name in humanoid.body_names:
            _add_contact_sensor(spec, on=name, by=item.name)
    return spec


def _add_floor(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.83, 0.86],
        rgb2=[0.70, 0.74, 0.78],
        width=512,
        height=512,
    )
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.75, 0.85, 0.95],
        rgb2=[1.0, 1.0, 1.0],
        width=128,
        height=768,
    )
    material = spec.add_material(name="floor", texrepeat=[0.5, 0.5], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 1],
        material="floor",
        contype=FLOOR_BIT,
        conaffinity=0,
        friction=[1.0, 0.005, 0.0001],
    )
    spec.worldbody.add_light(
        pos=[0, 0, 10], dir=[0.3, 0.2, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    )


def _add_contact_sensor(spec: mujoco.MjSpec, *, on: str, by: str | None = None) -> None:
    """Net contact force on a body, world frame, of everything or of one other body."""
    sensor = spec.add_sensor(name=f"{by or 'all'}_on_{on}", type=mujoco.mjtSensor.mjSENS_CONTACT)
    if by is not None:
        sensor.objtype, sensor.objname = mujoco.mjtObj.mjOBJ_BODY, by
    sensor.reftype, sensor.refname = mujoco.mjtObj.mjOBJ_BODY, on
    # what to report (the force), how to reduce (3: net force), how many
    sensor.intprm = [1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE), 3, 1]


def check_start(qpos: Tensor, qvel: Tensor) -> None:
    """Refuse states that MuJoCo would replace.

    Raises:
        ValueError: a value is not finite or too large.
    """
    for name, value in (("qpos", qpos), ("qvel", qvel)):
        if not (value.abs() < _MAX_STATE).all():
            raise ValueError(f"{name} must be finite and below {_MAX_STATE:g}, it is not")


class MujocoCpu:
    """The :class:`~tt_gym.simulation.state.Simulator` on ``mujoco.batch.Batch``.

    Args:
        humanoid: what to simulate.
        num_envs: N >= 1.
        objects: free objects present in every environment.
        self_collision: let limbs collide with each other.
        num_threads: physics threads, 0 for all cores.
        terrain: what lies on the floor; every environment begins with its first level.

    Raises:
        ValueError: ``num_envs`` is not a positive integer.
    """

    def __init__(
        self,
        humanoid: Humanoid,
        num_envs: int,
        *,
        objects: Sequence[BoxObject] = (),
        self_collision: bool = False,
        num_threads: int = 0,
        terrain: Terrain | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        _quiet_warnings()
        self.humanoid, self.num_envs, self.objects = humanoid, num_envs, tuple(objects)
        spec = build_spec(humanoid, objects, self_collision=self_collision, terrain=terrain)
        self.model = spec.compile()
        threads = min(num_threads or os.cpu_count() or 1, num_envs)
        self._batch = Batch(self.model, num_envs, nthread=threads, persistent=True)
        self._qpos, self._qvel, self._ctrl = (self._bind(k) for k in ("qpos", "qvel", "ctrl"))
        self._xpos, self._xquat = self._bind("xpos"), self._bind("xquat")
        self._cvel, self._com = self._bind("cvel"), self._bind("subtree_com")
        self._sensors = self._bind("sensordata")
        self._root_of_body = self.model.body_rootid[1:]
        self.diverged = torch.zeros(num_envs, dtype=torch.bool)
        self.ground_slope: Tensor | None = None
        self.terrain, self._level = terrain, torch.zeros(num_envs, dtype=torch.long)
        if terrain is not None:
            self.choose_terrain(torch.arange(num_envs), torch.zeros_like(self._level))
        self._batch.forward()
        self.state = self._read_state()

    def _bind(self, name: str) -> np.ndarray:
        return self._batch.bind(name)

    @property
    def qpos(self) -> Tensor:
        """Copy of the generalised positions, (N, nq), float32."""
        return torch.from_numpy(self._qpos.astype(np.float32))

    @property
    def qvel(self) -> Tensor:
        """Copy of the generalised velocities, (N, nv), float32."""
        return torch.from_numpy(self._qvel.astype(np.float32))

    def parameter(self, name: str) -> np.ndarray:
        """Live per-environment values of a physical parameter, to be written in place.

        Args:
            name: ``gravity`` (N, 3), m/s^2; ``friction`` (N, geoms, 3);
                ``contact_dimension`` (N, geoms), 1 without friction, 3 with; ``body_mass``
                (N, 1 + bodies), kg, and ``body_inertia`` (N, 1 + bodies, 3), kg m^2, the world
                first. Call :meth:`update_constants` after writing the last two.
        """
        if name not in _PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}; known: {', '.join(_PARAMETERS)}")
        return self._batch.expand(_PARAMETERS[name])

    def update_constants(self) -> None:
        """Recompute what depends on masses and inertias, after writing them."""
        self._batch.set_const()

    def tilt_ground(self, ids: Tensor, slope: Tensor) -> None:
        """Let the ground rise along world x in some environments, by (len(ids),) rad.

        From then on heights in :attr:`state` are above the ground under the root, so that they
        mean what they mean on flat ground. The ground stays where it is at x = 0.
        """
        if self.ground_slope is None:
            self.ground_slope = torch.zeros(self.num_envs)
        self.ground_slope[ids] = slope
        rows, floor, half = ids.numpy(), self.model.geom("floor").id, 0.5 * slope.double().numpy()
        zero = np.zeros_like(half)
        turned = np.stack((np.cos(half), zero, -np.sin(half), zero), axis=-1)
        self._batch.expand("geom_quat")[rows, floor] = turned
        # else MuJoCo takes the frame of the world body for that of the floor
        self._batch.expand("geom_sameframe")[rows, floor] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE

    def choose_terrain(self, ids: Tensor, level: Tensor) -> None:
        """Give some environments the terrain's measures number ``level`` (len(ids),).

        Heights in :attr:`state` are above the mean ground within 0.35 m of the root.
        """
        self._level[ids] = level
        field = self._batch.expand("geom_dataid")
        field[ids.numpy(), self.model.geom(TERRAIN).id] = level.numpy()

    def ground_height(self, place: Tensor) -> Tensor:
        """Height (N, ...) from which those in :attr:`state` count for a root at (N, ..., 2), m."""
        x = place[..., 0]
        if self.terrain is not None:
            return self.terrain.mean_height(place, self._level)
        if self.ground_slope is None:
            return torch.zeros_like(x)
        return x * self.ground_slope.tan().view(-1, *[1] * (x.dim() - 1))

    def surface(self, place: Tensor) -> Tensor:
        """Height of the ground at places (N, P, 2) from that under the roots, (N, P), m."""
        height = self.ground_height(place)
        if self.terrain is not None:
            height = self.terrain.height(place, self._level)
        roots = torch.from_numpy(self._xpos[:, 1:2, :2].astype(np.float32))
        return height - self.ground_height(roots)

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        check_start(qpos, qvel)
        rows = ids.numpy()
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._qpos[rows] = qpos.numpy()
        self._qvel[rows] = qvel.numpy()
        self._batch.forward(rows)
        self.diverged[ids] = False
        self.state = self._read_state()

    def push(self, ids: Tensor, velocity: Tensor) -> None:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        self._qvel[ids.numpy(), :3] += velocity.numpy()

    def step(self, pd_target: Tensor) -> BodyState:
        """See :class:`~tt_gym.simulation.state.Simulator`."""
        self._ctrl[:] = self.humanoid.geodesic_ctrl(self.qpos, pd_target).numpy()
        self._batch.warning[:] = 0
        self.step_physics()
        warned = self._batch.warning[:, _DIVERGENCE_WARNINGS, 1].any(axis=1)
        self.diverged = torch.from_numpy(warned | self._too_fast())
        self.state = self._read_state()
        return self.state

    def step_physics(self) -> None:
        """One control step of bare physics with the current controls; ``state`` stays behind."""
        self._batch.step(nstep=DECIMATION, stage=mujoco.mjtStage.mjSTAGE_VEL)

    def get_state(self) -> np.ndarray:
        """Everything that physics remembers, (N, nstate), for :meth:`set_state`."""
        return self._batch.state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Restore what :meth:`get_state` gave, bit for bit.

        Raises:
            ValueError: the shape is that of another model or number of environments.
        """
        if state.shape != self._batch.state.shape:
            raise ValueError(
                f"state must have shape {self._batch.state.shape}, got {state.shape}: "
                "it was saved with another num_envs or model"
            )
        self._batch.state[:] = state
        self._batch.forward()
        self._batch.state[:] = state  # forward touches the warm start
        self.diverged = torch.from_numpy(self._too_fast())
        self.state = self._read_state()

    def data(self, index: int, reuse: mujoco.MjData | None = None) -> mujoco.MjData:
        """One environment's ``MjData``, for rendering; :attr:`model` takes its terrain."""
        if self.terrain is not None:
            self.model.geom(TERRAIN).dataid = int(self._level[index])
        return self._batch.get_data(index, reuse)

    def _too_fast(self) -> np.ndarray:
        return ~(np.abs(self._qvel) < MAX_SPEED).all(axis=1)

    def _read_state(self) -> BodyState:
        def now(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values.astype(np.float32))

        state = body_state(
            pos=now(self._xpos[:, 1:]),
            rot=now(self._xquat[:, 1:]),
            spatial_velocity=now(self._cvel[:, 1:]),
            centre=now(self._com[:, self._root_of_body]),
            forces=now(self._sensors),
            num_bodies=self.humanoid.num_bodies,
        )
        if self.ground_slope is not None or self.terrain is not None:
            height = self.ground_height(state.pos[:, :1, :2])
            state.pos[..., 2] -= height
            state.object_pos[..., 2] -= height
        return state
