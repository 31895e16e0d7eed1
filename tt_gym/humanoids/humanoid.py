"""What a humanoid is: bodies, joints, gains; maps between poses, ``qpos`` and PD targets."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from tt_gym import rotations

if TYPE_CHECKING:
    import mujoco

JointType = Literal["free", "ball", "hinge", "fixed"]
GeomType = Literal["sphere", "capsule", "box"]

# Collision bits: what a geom *is* (contype) and what it *meets* (conaffinity).
FLOOR_BIT, LIMB_BIT, OBJECT_BIT = 1, 2, 4


@dataclasses.dataclass(frozen=True)
class Body:
    """One rigid body, its joint to the parent and its collision shape.

    Attributes:
        parent: name of the parent body, None for the root.
        offset: joint position in the parent's frame, m.
        joint: ``ball`` and ``hinge`` are driven, ``free`` is the root's, ``fixed`` has no freedom.
        geom: collision shape; ``geom_size`` is as in MuJoCo (radius; radius, half length; half
            sides).
        geom_pos: centre of the shape in the body's frame, m.
        geom_axis: unit vector along a capsule, in the body's frame.
        mass: kg.
        kp, kd: PD gains, N m/rad and N m s/rad.
        torque_limit: N m per axis.
        range: hinge limits, rad.
    """

    name: str
    parent: str | None
    offset: tuple[float, float, float]
    joint: JointType
    geom: GeomType
    geom_size: tuple[float, ...]
    geom_pos: tuple[float, float, float]
    mass: float
    kp: float = 0.0
    kd: float = 0.0
    torque_limit: float = 0.0
    range: tuple[float, float] | None = None
    geom_axis: tuple[float, float, float] = (0.0, 0.0, 1.0)


class Humanoid:
    """A humanoid built from a depth-first table of bodies. Hinges turn about the body's y axis.

    The PD target (and so ``ctrl``) has ``num_dofs`` entries in table order: an exponential map
    (rad) per ball joint, an angle (rad) per hinge.

    Args:
        bodies: the table; a parent stands before its children and subtrees are contiguous, as in
            the order in which MuJoCo compiles them.
        mirror_names: prefixes that swap under left-right mirroring.
        head, right_hand: names of the bodies with that role.
        feet: bodies that may touch the ground.
        strike_bodies: bodies allowed to hit an object, besides the feet.
        armature: inertia added to every driven axis, kg m^2.
        passive_damping: share of kd that damps the joint itself; the servo carries the rest. A
            servo at its torque limit damps no more, and light limbs then need both of these to
            stay stable at 120 Hz.
        never_collide: pairs of bodies, besides parents and children, that pass through each other
            when limbs collide.
        prompt_heights: of root and head when walking, m, as hand-written prompts ask for them.
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        *,
        head: str,
        right_hand: str,
        feet: Sequence[str],
        strike_bodies: Sequence[str],
        mirror_names: tuple[str, str] = ("left_", "right_"),
        armature: float = 0.05,
        passive_damping: float = 0.1,
        never_collide: Sequence[tuple[str, str]] = (),
        prompt_heights: tuple[float, float],
    ) -> None:
        self.bodies = tuple(bodies)
        self.body_names = tuple(body.name for body in bodies)
        self.num_bodies = len(self.bodies)
        self.parents = tuple(
            -1 if body.parent is None else self.body_index(body.parent) for body in bodies
        )
        self.head = self.body_index(head)
        self.right_hand = self.body_index(right_hand)
        self.feet = tuple(self.body_index(name) for name in feet)
        self.strike_bodies = tuple(self.body_index(name) for name in strike_bodies)
        self.prompt_heights = prompt_heights
        self._mirror_names = mirror_names
        self._armature, self._passive_damping = armature, passive_damping
        self._never_collide = tuple(never_collide)
        self._index_joints()
        self.total_mass = sum(body.mass for body in self.bodies)

    def _index_joints(self) -> None:
        """Number the driven joints: where each sits in ``qpos`` and in the PD target."""
        qpos, dof = 7, 0
        ball, ball_qpos, ball_dof = [], [], []
        hinge, hinge_qpos, hinge_dof = [], [], []
        for index, body in enumerate(self.bodies):
            if body.joint == "ball":
                ball.append(index)
                ball_qpos.append(list(range(qpos, qpos + 4)))
                ball_dof.append(list(range(dof, dof + 3)))
                qpos, dof = qpos + 4, dof + 3
            elif body.joint == "hinge":
                hinge.append(index)
                hinge_qpos.append(qpos)
                hinge_dof.append(dof)
                qpos, dof = qpos + 1, dof + 1
        self.nq, self.nv, self.num_dofs = qpos, dof + 6, dof
        self.ball_bodies, self.hinge_bodies = tuple(ball), tuple(hinge)
        # the type is named because empty lists have none: a humanoid may have no hinges
        self._ball_qpos = torch.tensor(ball_qpos, dtype=torch.long).view(-1, 4)
        self._ball_dof = torch.tensor(ball_dof, dtype=torch.long).view(-1, 3)
        self._hinge_qpos = torch.tensor(hinge_qpos, dtype=torch.long)
        self._hinge_dof = torch.tensor(hinge_dof, dtype=torch.long)
        self.velocity_gain = torch.zeros(dof)
        one_dof = [[index] for index in hinge_dof]
        for index, dofs in zip(ball + hinge, ball_dof + one_dof, strict=True):
            self.velocity_gain[dofs] = self.bodies[index].kd / self.bodies[index].kp

    def body_index(self, name: str) -> int:
        """Index of a body; ValueError lists the known names."""
        if name not in self.body_names:
            raise ValueError(f"unknown body {name!r}; bodies: {', '.join(self.body_names)}")
        return self.body_names.index(name)

    @functools.cached_property
    def mirrored_bodies(self) -> tuple[int, ...]:
        """For every body the index of its left-right counterpart (itself on the midline)."""
        left, right = self._mirror_names
        swapped = []
        for name in self.body_names:
            if name.startswith(left):
                name = right + name.removeprefix(left)
            elif name.startswith(right):
                name = left + name.removeprefix(right)
            swapped.append(self.body_index(name))
        return tuple(swapped)

    @functools.cached_property
    def mirrored_dofs(self) -> tuple[Tensor, Tensor]:
        """Index and sign, (D,) each, that mirror a PD target: ``target[..., index] * sign``."""
        first_dof = {
            b: dofs[0] for b, dofs in zip(self.ball_bodies, self._ball_dof.tolist(), strict=True)
        }
        first_dof |= dict(zip(self.hinge_bodies, self._hinge_dof.tolist(), strict=True))
        index, sign = [], []
        for body in sorted(first_dof):
            start = first_dof[self.mirrored_bodies[body]]
            if body in self.ball_bodies:  # rotation vectors are axial: x and z change sign
                index += [start, start + 1, start + 2]
                sign += [-1.0, 1.0, -1.0]
            else:
                index.append(start)
                sign.append(1.0)
        return torch.tensor(index), torch.tensor(sign)

    # ---- poses ----------------------------------------------------------------------------------

    def qpos_from_pose(self, root_pos: Tensor, joint_rot: Tensor) -> Tensor:
        """MuJoCo ``qpos`` (..., nq) of a pose.

        Args:
            root_pos: (..., 3), m, world.
            joint_rot: (..., B, 4), each body's rotation relative to its parent (the root's: world).
        """
        qpos = torch.empty(*root_pos.shape[:-1], self.nq, dtype=root_pos.dtype)
        qpos[..., :3] = root_pos
        qpos[..., 3:7] = joint_rot[..., 0, :]
        qpos[..., self._ball_qpos] = joint_rot[..., list(self.ball_bodies), :]
        qpos[..., self._hinge_qpos] = self._hinge_angles(joint_rot)
        return qpos

    def joint_rot_from_qpos(self, qpos: Tensor) -> Tensor:
        """Inverse of :meth:`qpos_from_pose` for the rotations: (..., nq) -> (..., B, 4)."""
        joint_rot = torch.zeros(*qpos.shape[:-1], self.num_bodies, 4, dtype=qpos.dtype)
        joint_rot[..., 0] = 1.0
        joint_rot[..., 0, :] = qpos[..., 3:7]
        joint_rot[..., list(self.ball_bodies), :] = qpos[..., self._ball_qpos]
        axis = torch.tensor([0.0, 1.0, 0.0], dtype=qpos.dtype)
        joint_rot[..., list(self.hinge_bodies), :] = rotations.quat_from_axis_angle(
            axis, qpos[..., self._hinge_qpos]
        )
        return joint_rot

    def _hinge_angles(self, joint_rot: Tensor) -> Tensor:
        hinge = joint_rot[..., list(self.hinge_bodies), :]
        return rotations.wrap_angle(2.0 * torch.atan2(hinge[..., 2], hinge[..., 0]))

    def pd_target_from_pose(self, joint_rot: Tensor) -> Tensor:
        """PD target (..., D), rad, that holds a pose given as (..., B, 4) local rotations."""
        target = torch.empty(*joint_rot.shape[:-2], self.num_dofs, dtype=joint_rot.dtype)
        target[..., self._ball_dof] = rotations.exp_map_from_quat(
            joint_rot[..., list(self.ball_bodies), :]
        )
        target[..., self._hinge_dof] = self._hinge_angles(joint_rot)
        return target

    def qvel_from_poses(self, root_vel: Tensor, before: Tensor, after: Tensor, dt: float) -> Tensor:
        """MuJoCo ``qvel`` (..., nv) that leads from one pose to another in ``dt`` seconds.

        Args:
            root_vel: root linear velocity, (..., 3), m/s, world.
            before: local rotations, (..., B, 4).
            after: the same, ``dt`` later.
            dt: time between them, s.
        """
        change = rotations.quat_multiply(rotations.quat_conjugate(before), after)
        local = rotations.exp_map_from_quat(change) / dt  # in each body's own frame
        qvel = torch.empty(*root_vel.shape[:-1], self.nv, dtype=root_vel.dtype)
        qvel[..., :3] = root_vel
        qvel[..., 3:6] = local[..., 0, :]
        qvel[..., 6 + self._ball_dof] = local[..., list(self.ball_bodies), :]
        qvel[..., 6 + self._hinge_dof] = local[..., list(self.hinge_bodies), 1]
        return qvel

    def geodesic_ctrl(self, qpos: Tensor, pd_target: Tensor) -> Tensor:
        """Controls that make the per-axis servos pull along the geodesic to the target.

        The servo of a ball joint acts on ``u - log q`` per axis, which is not passive at large
        angles; ``u' = log q + log(q^-1 exp u)`` is.

        Args:
            qpos: (N, >= nq), MuJoCo order.
            pd_target: (N, D), rad.
        """
        ctrl = pd_target.clone()
        q = qpos[:, self._ball_qpos]
        desired = rotations.quat_from_exp_map(pd_target[:, self._ball_dof])
        error = rotations.quat_multiply(rotations.quat_conjugate(q), desired)
        ctrl[:, self._ball_dof] = rotations.exp_map_from_quat(torch.stack((q, error))).sum(dim=0)
        return ctrl

    def forward_kinematics(
        self, qpos: Tensor, qvel: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """World position, rotation, linear and angular velocity of every body origin.

        Args:
            qpos: (..., nq).
            qvel: (..., nv).

        Returns:
            (..., B, 3), (..., B, 4), (..., B, 3) m/s, (..., B, 3) rad/s.
        """
        joint_rot = self.joint_rot_from_qpos(qpos)
        joint_vel = torch.zeros(*qpos.shape[:-1], self.num_bodies, 3, dtype=qpos.dtype)
        joint_vel[..., list(self.ball_bodies), :] = qvel[..., 6 + self._ball_dof]
        joint_vel[..., list(self.hinge_bodies), 1] = qvel[..., 6 + self._hinge_dof]
        pos, rot = [qpos[..., :3]], [joint_rot[..., 0, :]]
        vel, ang_vel = [qvel[..., :3]], [rotations.rotate(rot[0], qvel[..., 3:6])]
        for index in range(1, self.num_bodies):
            parent = self.parents[index]
            offset = torch.tensor(self.bodies[index].offset, dtype=qpos.dtype)
            arm = rotations.rotate(rot[parent], offset.expand_as(pos[parent]))
            pos.append(pos[parent] + arm)
            vel.append(vel[parent] + torch.linalg.cross(ang_vel[parent], arm))
            rot.append(rotations.quat_multiply(rot[parent], joint_rot[..., index, :]))
            spin = rotations.rotate(rot[index], joint_vel[..., index, :])
            ang_vel.append(ang_vel[parent] + spin)
        stacked = [torch.stack(values, dim=-2) for values in (pos, rot, vel, ang_vel)]
        return stacked[0], stacked[1], stacked[2], stacked[3]

    def lowest_point(self, body_pos: Tensor, body_rot: Tensor) -> Tensor:
        """Height of the lowest point of any shape: (..., B, 3), (..., B, 4) -> (...), m."""
        heights = []
        for index, body in enumerate(self.bodies):
            rot, size = body_rot[..., index, :], body.geom_size
            centre = torch.tensor(body.geom_pos, dtype=body_pos.dtype)
            z = (
                body_pos[..., index, 2]
                + rotations.rotate(rot, centre.expand(*rot.shape[:-1], 3))[..., 2]
            )
            # third row of the rotation matrix: how much each body axis points up
            along = rotations.rotate(
                rotations.quat_conjugate(rot), torch.tensor([0.0, 0.0, 1.0], dtype=z.dtype)
            )
            if body.geom == "box":
                reach = (along.abs() * torch.tensor(size, dtype=z.dtype)).sum(dim=-1)
            elif body.geom == "capsule":
                tilt = (along * torch.tensor(body.geom_axis, dtype=z.dtype)).sum(dim=-1).abs()
                reach = size[0] + tilt * size[1]
            else:
                reach = torch.full_like(z, size[0])
            heights.append(z - reach)
        return torch.stack(heights, dim=-1).amin(dim=-1)

    # ---- MuJoCo ---------------------------------------------------------------------------------

    def add_to(self, spec: mujoco.MjSpec, *, self_collision: bool = False) -> None:
        """Add bodies, joints, servos and one net-contact-force sensor per body to a MuJoCo spec."""
        import mujoco

        meets = FLOOR_BIT | OBJECT_BIT | (LIMB_BIT if self_collision else 0)
        shapes = {
            "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
            "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
            "box": mujoco.mjtGeom.mjGEOM_BOX,
        }
        added: dict[str | None, mujoco.MjsBody] = {None: spec.worldbody}
        for body in self.bodies:
            node = added[body.parent].add_body(name=body.name, pos=body.offset)
            added[body.name] = node
            if body.joint == "free":
                node.add_freejoint(name=body.name)
            elif body.joint != "fixed":
                self._add_joint(spec, node, body)
            node.add_geom(
                name=body.name,
                type=shapes[body.geom],
                size=np.pad(body.geom_size, (0, 3 - len(body.geom_size))),
                pos=body.geom_pos,
                quat=_quat_from_z(body.geom_axis),
                mass=body.mass,
                contype=LIMB_BIT,
                conaffinity=meets,
                friction=[1.0, 0.005, 0.0001],
                rgba=[0.83, 0.60, 0.38, 1.0] if body.joint != "free" else [0.35, 0.45, 0.65, 1.0],
            )
        if self_collision:
            family = [(body.parent, body.name) for body in self.bodies if body.parent is not None]
            for first, second in (*family, *self._never_collide):
                spec.add_exclude(bodyname1=first, bodyname2=second)

    def _add_joint(self, spec: mujoco.MjSpec, node: mujoco.MjsBody, body: Body) -> None:
        """A joint with passive damping and one position servo per axis."""
        import mujoco

        ball = body.joint == "ball"
        joint = node.add_joint(
            name=body.name,
            type=mujoco.mjtJoint.mjJNT_BALL if ball else mujoco.mjtJoint.mjJNT_HINGE,
            armature=self._armature,
            damping=[self._passive_damping * body.kd, 0, 0],
        )
        if not ball:
            joint.axis = [0, 1, 0]
        if body.range is not None:
            joint.range, joint.limited = body.range, True
        for axis in range(3 if ball else 1):
            servo = spec.add_actuator(
                name=f"{body.name}_{'xyz'[axis]}" if ball else body.name,
                trntype=mujoco.mjtTrn.mjTRN_JOINT,
                target=body.name,
                gear=np.eye(6)[axis],
                forcerange=[-body.torque_limit, body.torque_limit],
                forcelimited=True,
            )
            servo.set_to_position(kp=body.kp, kv=(1.0 - self._passive_damping) * body.kd)


def _quat_from_z(axis: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """Quaternion that turns +z into a unit vector other than -z."""
    x, y, z = axis
    norm = math.sqrt(2.0 * (1.0 + z))
    return (0.5 * norm, -y / norm, x / norm, 0.0)
