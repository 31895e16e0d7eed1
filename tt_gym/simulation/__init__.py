"""Simulators: the only place where physics is known."""

from tt_gym.simulation.mujoco_cpu import MujocoCpu
from tt_gym.simulation.state import CONTROL_DT, BodyState, BoxObject, Simulator

__all__ = ["CONTROL_DT", "BodyState", "BoxObject", "MujocoCpu", "Simulator"]
