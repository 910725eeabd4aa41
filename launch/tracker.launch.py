"""The tracker on a robot: ros2 launch sot_ros tracker.launch.py image:=/camera/image_raw

`--show-args` lists the arguments. Those given here win over params_file; the node checks every value.
"""

import os
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory("sot_ros")) / "config"

TEXTS = {
    "model": "the tracker, such as siamfc",
    "weights": "path of a checkpoint as its authors published it",
    "device": "cpu, cuda or cuda:1, with onnxruntime also tensorrt; auto for CUDA where there is one",
    "precision": "fp32, tf32, fp16, bf16, int8, or auto for the fastest but int8 that finds what fp32 finds",
    "backend": "torch, or onnxruntime with weights that sot export wrote",
    "image_transport": "raw, or compressed for the topic <image>/compressed",
    "velocity_frame": "frame to publish the target's velocity in, such as odom; needs use_depth",
    "detection_class": "class_id of the detections that count",
}
NUMBERS = {
    "search_factor": "side of the search region over side of the template region or target",
    "scale_num": "number of scales searched, odd (siamfc)",
    "scale_step": "ratio between neighbouring scales (siamfc)",
    "scale_penalty": "factor on the response of every scale but the middle one (siamfc)",
    "scale_lr": "share of a scale change taken over in one frame (siamfc)",
    "window_influence": "share of the window that favours small motion",
    "threads": "threads that the network takes on a CPU, 0 for as many as there are cores",
    "max_targets": "targets at once; above 1, a box adds a target and replaces none",
    "rectified": "true or false: the images are rectified, P of camera_info describes them",
    "use_depth": "true or false: publish the target's position, by the topic depth",
    "use_detections": "true or false: start and take back targets by the topic detections",
    "detection_score": "least score of the detections that count",
    "debug": "true or false: publish debug_image while somebody subscribes to it",
    "autostart": "true or false: configure and activate at start",
    "use_sim_time": "true or false: take the time from /clock",
}
OTHERS = {
    "params_file": (str(CONFIG / "tracker.yaml"), "parameters in YAML"),
    "namespace": ("sot", "namespace of the node and its topics"),
    "image": ("image", "topic of the camera's images"),
    "camera_info": ("camera_info", "topic of the camera's calibration"),
    "depth": ("depth", "topic of depth images, registered to the camera's"),
    "detections": ("detections", "topic of a detector's vision_msgs/Detection2DArray"),
}
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]
RESPAWN_DELAY_S = 1.0


def generate_launch_description() -> LaunchDescription:
    parameters = [
        DeclareLaunchArgument(name, default_value="", description=f"{text}; if not given: as in params_file")
        for name, text in (TEXTS | NUMBERS).items()
    ]
    others = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in OTHERS.items()
    ]
    log_level = DeclareLaunchArgument(
        "log_level", default_value="info", choices=LOG_LEVELS, description="least severity"
    )
    respawn = DeclareLaunchArgument(
        "respawn", default_value="false", choices=["true", "false"], description="start the node again when it crashes"
    )
    return LaunchDescription([*parameters, *others, respawn, log_level, OpaqueFunction(function=tracker)])


def tracker(context: LaunchContext) -> list[Node]:
    """The node, with the arguments that were given."""
    names = [*TEXTS, *NUMBERS, *OTHERS, "respawn", "log_level"]
    arguments = {name: LaunchConfiguration(name).perform(context) for name in names}
    if not Path(arguments["params_file"]).is_file():
        raise RuntimeError(f"params_file {arguments['params_file']} does not exist")
    given = {name: ParameterValue(arguments[name], value_type=str) for name in TEXTS if arguments[name]}
    given |= {name: yaml.safe_load(arguments[name]) for name in NUMBERS if arguments[name]}
    return [
        Node(
            package="sot_ros",
            executable="tracker",
            name="tracker",
            namespace=arguments["namespace"],
            parameters=[arguments["params_file"], given],
            remappings=[(topic, arguments[topic]) for topic in ("image", "camera_info", "depth", "detections")],
            ros_arguments=["--log-level", arguments["log_level"]],
            additional_env=transport_profile(),
            output="screen",
            respawn=arguments["respawn"] == "true",
            respawn_delay=RESPAWN_DELAY_S,
            on_exit=fail_if_it_could_not_start,
        )
    ]


def fail_if_it_could_not_start(event: ProcessExited, context: LaunchContext) -> None:
    """End the launch, and with an error, for values that are refused: to start again would not help.

    Of a crash later on, which has another exit code, the robot's other nodes are spared.
    """
    if event.returncode == 1:
        raise RuntimeError("the tracker could not start, see its line above")


def transport_profile() -> dict[str, str]:
    """Room for whole images in shared memory, unless the user has a profile. Fast DDS 3 renamed the variable."""
    profile = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", str(CONFIG / "fastdds.xml"))
    return {
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "FASTDDS_DEFAULT_PROFILES_FILE": os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE", profile),
    }
