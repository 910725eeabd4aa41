"""One pipeline per tracker family, and the table of models."""

from sot_ros.geometry import Box
from sot_ros.trackers.base import Estimate, Tracker, track_together
from sot_ros.trackers.models import create_tracker, list_models
from sot_ros.trackers.multi import MultiTracker

__all__ = ["Box", "Estimate", "MultiTracker", "Tracker", "create_tracker", "list_models", "track_together"]
