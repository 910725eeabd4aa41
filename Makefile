SHELL := /bin/bash
export SOURCE BOX MODEL WEIGHTS

help:
	@echo "make demo    track a target in a clip; the result is in demo/"
	@echo "             SOURCE=video.mp4, a folder of images or a webcam's number; BOX=x,y,w,h in its first frame"
	@echo "             MODEL=siamfc WEIGHTS=siamfc_alexnet_e50.pth: another tracker than the default"
	@echo "make test    run the tests; ARGS='test/test_geometry.py -k iou' runs some"
	@echo "make build   only set up .venv and the workspace"
	@echo "make clean   remove all that make has made"

build:
	@scripts/setup.sh

demo: build
	@source setup.bash && if command -v ros2 >/dev/null; then \
	  ros2 launch sot_ros demo.launch.py $${SOURCE:+"source:=$$SOURCE"} $${BOX:+"box:=$$BOX"} \
	    $${MODEL:+"model:=$$MODEL"} $${WEIGHTS:+"weights:=$$WEIGHTS"}; \
	else \
	  install/sot_ros/lib/sot_ros/demo --source "$$SOURCE" --box "$$BOX" --model "$$MODEL" --weights "$$WEIGHTS"; \
	fi

test: build
	@source setup.bash && $(if $(ARGS),pytest $(ARGS),pytest -m "not ros" --numprocesses=2 --dist=loadfile && pytest -m ros)

clean:
	rm -rf .venv build install log demo

.PHONY: help build demo test clean
