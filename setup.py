"""sot_ros as an ordinary Python package, for use without ROS; with ROS, CMakeLists.txt installs the same modules."""

from setuptools import find_packages, setup

setup(
    name="sot_ros",
    version="0.1.0",
    description="Visual single-object tracking for robots",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["sot_ros", "sot_ros.*"]),
    package_data={"sot_ros": ["weights/*", "training/*.yaml", "training/*.csv", "trackers/*.yaml"]},
    install_requires=[
        "numpy>=1.21",
        "opencv-python>=4.5.4",
        "PyYAML>=5.4",
        "safetensors>=0.4",
        "timm>=1.0",
        "torch>=2.1",
        "torchvision>=0.16",
        "tqdm>=4.57",
    ],
    entry_points={"console_scripts": ["sot = sot_ros.cli:main"]},
)
