"""A tracker for each of two cameras: ros2 launch sot_ros two_cameras.launch.py front:=/cam0/image rear:=/cam1/image

Each has a target of its own, in /front and /rear: /front/init_box, /front/tracked_box. The arguments of
tracker.launch.py are taken too, for both. Where they differ, that stands in the params_file, under /front/tracker and
/rear/tracker.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration

TRACKER = Path(get_package_share_directory("sot_ros")) / "launch" / "tracker.launch.py"
CAMERAS = ("front", "rear")


def generate_launch_description() -> LaunchDescription:
    images = [
        DeclareLaunchArgument(name, default_value=f"/{name}/image_raw", description=f"images of the {name} camera")
        for name in CAMERAS
    ]
    trackers = [
        IncludeLaunchDescription(
            str(TRACKER),
            launch_arguments={
                "namespace": name,
                "image": LaunchConfiguration(name),
                "camera_info": f"/{name}/camera_info",
            }.items(),
        )
        for name in CAMERAS
    ]
    return LaunchDescription([*images, *trackers])
