"""A camera process: it shows one frame of the clip on a topic, ten times a second, until it is killed.

python test/camera.py TOPIC FRAME
"""

import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from robot import picture
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sot_ros.node.messages import rgb_image

topic, frame = sys.argv[1], int(sys.argv[2])
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
while True:
    publisher.publish(rgb_image(Header(stamp=node.get_clock().now().to_msg(), frame_id="camera"), picture(frame)))
    time.sleep(0.1)
