"""One pipeline per tracker family, and the table of models."""

from sot_ros.geometry import Box
from sot_ros.trackers.base import Estimate, Tracker
from sot_ros.trackers.models import create_tracker, list_models

__all__ = ["Box", "Estimate", "Tracker", "create_tracker", "list_models"]
