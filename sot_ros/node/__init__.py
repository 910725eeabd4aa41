"""The ROS 2 node. The only part of the package that imports rclpy."""
