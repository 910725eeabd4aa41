# Makes a bash shell ready for sot_ros: source /path/to/sot_ros/setup.bash
# Then `tracker`, `demo` and their messages are found: ros2 run sot_ros tracker, or install/sot_ros/lib/sot_ros/tracker.
_sot_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -e "$_sot_root/install/made_from" ]; then
  echo "sot_ros is not set up yet. Run: make -C $_sot_root build" >&2
  unset _sot_root
  return 1
fi
source "$_sot_root/.venv/bin/activate"
if ! command -v ros2 >/dev/null; then  # ROS 2 from the wheels in .venv
  export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
fi
source "$_sot_root/install/local_setup.bash"
# Fast DDS up to 2.x reads the first, later ones the second.
export FASTRTPS_DEFAULT_PROFILES_FILE=${FASTRTPS_DEFAULT_PROFILES_FILE:-$_sot_root/config/fastdds.xml}
export FASTDDS_DEFAULT_PROFILES_FILE=${FASTDDS_DEFAULT_PROFILES_FILE:-$FASTRTPS_DEFAULT_PROFILES_FILE}
unset _sot_root
