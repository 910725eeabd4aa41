"""From pixels to rays and back. Neither torch nor ROS.

Rays and points are in the camera's optical frame (REP 103): x to the right, y down, z forward, metres. Pixels are
counted as in boxes: (0, 0) is the image's top-left corner. Calibrations often put it into the middle of the first
pixel; that half pixel is not told apart, nor does image_geometry when it bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

ACCURACY_PX = 1e-6
"""A ray is only given for a pixel to which it projects back this closely."""
MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""CameraInfo's distortion models, and how many coefficients each may have."""
_NO_TURN = np.zeros(3)


@dataclass(frozen=True)
class Camera:
    """A calibrated camera, as it took images of width x height pixels.

    matrix      (3, 3): focal lengths and principal point of these images
    distortion  OpenCV's coefficients of the lens
    fisheye     whether they are those of the equidistant model, which sees beyond 90 degrees, or of the polynomial one
    rotation    (3, 3): turns rays of the lens into the camera's frame; R of a stereo camera's raw images
    """

    width: int
    height: int
    matrix: np.ndarray
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(5))
    fisheye: bool = False
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))

    def ray(self, u: float, v: float) -> np.ndarray:
        """The unit vector (3,) from the camera through pixel (u, v).

        Raises ValueError for a pixel that no ray reaches by the model of the lens.
        """
        unturned = self._ray_of_fisheye(u, v) if self.fisheye else self._ray_of_polynomial(u, v)
        ray = self.rotation @ (unturned / np.linalg.norm(unturned))
        if not np.allclose(self._project(ray), (u, v), rtol=0, atol=ACCURACY_PX):
            raise ValueError(f"pixel ({u:g}, {v:g}) refused: by the camera's calibration, nothing is seen there")
        return ray

    def project(self, point: Sequence[float]) -> tuple[float, float]:
        """The pixel (u, v) at which a point (x, y, z) is seen, in the image or beyond its border.

        Raises ValueError for a point that cannot be seen: behind the camera, or at it.
        """
        behind = not self.fisheye and (self.rotation.T @ point)[2] <= 0
        if behind or not np.any(point) or not np.all(np.isfinite(point)):
            raise ValueError("point ({:g}, {:g}, {:g}) refused: it is not before the camera".format(*point))
        return self._project(np.asarray(point, float))

    def without_lens(self) -> Camera:
        """The pinhole that is left without the lens's distortion."""
        return replace(self, distortion=np.zeros(5), fisheye=False)

    def _project(self, point: np.ndarray) -> tuple[float, float]:
        x, y, z = self.rotation.T @ point
        if self.fisheye:
            sideways = math.hypot(x, y)
            radius, _ = self._bend(math.atan2(sideways, z))
            scale = radius / sideways if sideways > 0 else 0.0
            u, v, _ = self.matrix @ (x * scale, y * scale, 1)
        else:
            pixels, _ = cv2.projectPoints(np.array([[x, y, z]]), _NO_TURN, _NO_TURN, self.matrix, self.distortion)
            u, v = pixels.ravel()
        return float(u), float(v)

    def _ray_of_polynomial(self, u: float, v: float) -> np.ndarray:
        point = np.linalg.solve(self.matrix, (u, v, 1.0))
        for _ in range(50):  # Newton; a real lens takes 3 to 6 steps
            # Columns 3 and 4 of OpenCV's derivatives are those by the point's x and y.
            pixels, by = cv2.projectPoints(point[None], _NO_TURN, _NO_TURN, self.matrix, self.distortion)
            if not np.linalg.det(by[:, 3:5]) > 0:  # beyond where the model of this lens turns back
                break
            step = np.linalg.solve(by[:, 3:5], (u, v) - pixels.ravel())
            point[:2] += step
            if not np.abs(step).max() > 1e-14:
                break
        return point

    def _ray_of_fisheye(self, u: float, v: float) -> np.ndarray:
        x, y, _ = np.linalg.solve(self.matrix, (u, v, 1.0))
        radius = math.hypot(x, y)
        angle = min(radius, math.pi)
        for _ in range(50):
            bent, by_angle = self._bend(angle)
            if by_angle <= 0:
                break
            step = (radius - bent) / by_angle
            angle = min(max(0.0, angle + step), math.pi)
            if abs(step) < 1e-14:
                break
        sine = math.sin(angle) / radius if radius > 0 else 0.0
        return np.array([x * sine, y * sine, math.cos(angle)])

    def _bend(self, angle: float) -> tuple[float, float]:
        """How far from the middle of the image a ray at `angle` to the axis lands, in focal lengths; the derivative."""
        squared = angle**2
        powers = [squared**i for i in range(5)]
        coefficients = (1.0, *self.distortion)
        bent = angle * sum(k * p for k, p in zip(coefficients, powers, strict=True))
        return bent, sum((2 * i + 1) * k * p for i, (k, p) in enumerate(zip(coefficients, powers, strict=True)))


def default_camera(width: int, height: int) -> Camera:
    """A pinhole for images of a camera that was not calibrated: its focal length is the width, 53 degrees of view."""
    return Camera(width, height, np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]))


def camera_from_info(info: Any, rectified: bool = False) -> Camera:
    """The camera that a sensor_msgs/CameraInfo, or any object with its fields, describes.

    rectified   whether its images are rectified already: then P describes them, else K and D

    Region of interest and binning are applied as image_geometry does. Rays are those of the rectified camera in both
    cases, so R turns those of raw images. Raises ValueError with one line for a calibration that cannot be used.
    """
    matrix = np.reshape(np.asarray(info.p if rectified else info.k, float), (3, -1))[:, :3].copy()
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(f"camera_info refused: its {'P' if rectified else 'K'} holds no focal length; calibrate it")
    roi, binning = info.roi, np.maximum(1, (info.binning_x, info.binning_y))
    matrix[:2, 2] -= roi.x_offset, roi.y_offset
    matrix[:2] /= binning[:, None]
    size = (roi.width or info.width) // int(binning[0]), (roi.height or info.height) // int(binning[1])
    if rectified:
        return Camera(*size, matrix)
    model, distortion = info.distortion_model, np.asarray(info.d, float)
    if not distortion.any() and model != "equidistant":
        model, distortion = "plumb_bob", np.zeros(5)  # whatever it is called, it bends nothing
    if model not in MODELS:
        raise ValueError(f"camera_info of distortion model '{model}' refused: {', '.join(MODELS)} are accepted")
    if len(distortion) not in MODELS[model] or not np.isfinite(distortion).all():
        accepted = " or ".join(map(str, MODELS[model]))
        raise ValueError(f"camera_info with D {distortion.tolist()} refused: {model} has {accepted} finite numbers")
    rotation = np.reshape(np.asarray(info.r, float), (3, 3))
    turned = rotation if rotation.any() else np.eye(3)  # all zero: nobody set R
    return Camera(*size, matrix, distortion, model == "equidistant", turned)


def pan_and_tilt(ray: Sequence[float]) -> tuple[float, float]:
    """By which angles in radians a gimbal must turn a camera, first pan and then tilt, for it to look along `ray`.

    pan turns to the right, tilt turns upwards: both right-handed, about the axes y and x of the optical frame.
    """
    x, y, z = ray
    return math.atan2(x, z), math.atan2(-y, math.hypot(x, z))
