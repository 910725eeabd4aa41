"""The tracker and a clip for it to track: ros2 launch sot_ros demo.launch.py source:=video.mp4 box:=100,80,60,120

Takes the arguments of tracker.launch.py too. Ends when the clip does.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

TRACKER = Path(get_package_share_directory("sot_ros")) / "launch" / "tracker.launch.py"


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source", default_value="", description="video file, folder of images or webcam number; empty: a clip"
            ),
            DeclareLaunchArgument("box", default_value="", description="x,y,w,h of the target in the first frame"),
            DeclareLaunchArgument("output", default_value="demo", description="folder for the results"),
            IncludeLaunchDescription(str(TRACKER)),
            Node(
                package="sot_ros",
                executable="demo",
                arguments=["--no-tracker"]
                + [part for name in ("source", "box", "output") for part in (f"--{name}", LaunchConfiguration(name))],
                output="screen",
                on_exit=end,
            ),
        ]
    )


def end(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """Stop the tracker too. A failure is raised, for only then `ros2 launch` fails as well."""
    if event.returncode:
        raise RuntimeError("the demo failed, see its line above")
    return Shutdown(reason="the demo has ended")
