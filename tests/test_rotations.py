import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_gym import rotations

settings.register_profile("quick", max_examples=50, deadline=None)
settings.load_profile("quick")

coordinate = st.floats(-1.0, 1.0, allow_nan=False)
vectors = st.tuples(coordinate, coordinate, coordinate).map(
    lambda v: torch.tensor(v, dtype=torch.float64)
)
# rotation vectors of up to just under half a turn
exp_maps = st.tuples(vectors, st.floats(0.0, 3.1)).map(
    lambda pair: pair[1] * pair[0] / pair[0].norm().clamp_min(1e-3)
)
quats = exp_maps.map(rotations.quat_from_exp_map)


def quat(axis: str, degrees: float) -> torch.Tensor:
    unit = torch.tensor([float(letter == axis) for letter in "xyz"])
    return rotations.quat_from_axis_angle(unit, torch.tensor(math.radians(degrees)))


@given(quats, quats, vectors)
def test_product_applies_the_right_factor_first(a, b, v):
    both = rotations.rotate(rotations.quat_multiply(a, b), v)
    torch.testing.assert_close(both, rotations.rotate(a, rotations.rotate(b, v)))


@given(quats, vectors)
def test_conjugate_turns_back(q, v):
    turned = rotations.rotate(rotations.quat_conjugate(q), rotations.rotate(q, v))
    torch.testing.assert_close(turned, v)


@given(exp_maps)
def test_exponential_map_round_trip(exp_map):
    back = rotations.exp_map_from_quat(rotations.quat_from_exp_map(exp_map))
    torch.testing.assert_close(back, exp_map, atol=1e-6, rtol=0)


@given(quats)
def test_exponential_map_is_the_same_for_both_signs_of_a_quaternion(q):
    torch.testing.assert_close(rotations.exp_map_from_quat(q), rotations.exp_map_from_quat(-q))


@given(quats, quats, st.floats(0.0, 1.0))
def test_slerp_divides_the_angle(a, b, fraction):
    between = rotations.slerp(a, b, torch.tensor([fraction], dtype=torch.float64))
    part = rotations.rotation_angle(a, between)
    torch.testing.assert_close(part, fraction * rotations.rotation_angle(a, b), atol=1e-6, rtol=0)


@given(quats, vectors)
def test_rot6_holds_the_turned_x_and_z_axes(q, v):
    axes = torch.eye(3, dtype=torch.float64)
    x, z = rotations.rotate(q, axes[0]), rotations.rotate(q, axes[2])
    torch.testing.assert_close(rotations.rot6(q), torch.cat((x, z)))


@given(quats, vectors)
def test_heading_frame_of_one_vector_and_of_many_agree(q, v):
    one = rotations.rotate(rotations.heading_inverse(q), v)
    many = rotations.to_heading_frame(q[None], v[None, None])
    torch.testing.assert_close(many[0, 0], one)


@given(st.floats(-20.0, 20.0))
def test_wrapped_angle_points_the_same_way_within_half_a_turn(angle):
    wrapped = rotations.wrap_angle(torch.tensor(angle, dtype=torch.float64))
    assert -math.pi <= wrapped <= math.pi
    assert math.isclose(math.cos(wrapped), math.cos(angle), abs_tol=1e-9)
    assert math.isclose(math.sin(wrapped), math.sin(angle), abs_tol=1e-9)


def test_quarter_turn_about_z_takes_x_to_y():
    turned = rotations.rotate(quat("z", 90), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_rotate_broadcasts_one_rotation_over_many_vectors():
    turned = rotations.rotate(quat("z", 90), torch.eye(3).expand(5, 3, 3))
    assert turned.shape == (5, 3, 3)
    torch.testing.assert_close(turned[4, 1], torch.tensor([-1.0, 0, 0]), atol=1e-6, rtol=0)


def test_heading_ignores_pitch_and_roll():
    tilted = rotations.quat_multiply(quat("z", 30), quat("y", 40))
    rolled = rotations.quat_multiply(tilted, quat("x", -70))
    assert rotations.heading(rolled).item() == pytest.approx(math.radians(30), abs=1e-6)


def test_yaw_quat_has_that_heading():
    angles = torch.linspace(-3.1, 3.1, 9)
    torch.testing.assert_close(rotations.heading(rotations.yaw_quat(angles)), angles)


def test_plane_vectors_turn_counter_clockwise():
    angle = torch.tensor(math.pi / 2)
    turned = rotations.rotate_xy(angle, torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(turned, torch.tensor([-1.0, 2.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        rotations.direction_xy(angle), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0
    )


def test_zero_rotation_vector_has_a_finite_gradient():
    exp_map = torch.zeros(3, requires_grad=True)
    rotations.quat_from_exp_map(exp_map).sum().backward()
    assert exp_map.grad is not None and torch.isfinite(exp_map.grad).all()
