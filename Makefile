SHELL := /bin/bash
export SOURCE BOX

help:
	@echo "make demo    track a target in a clip; result in demo/"
	@echo "             SOURCE=video.mp4, a folder of images, or a webcam's number; BOX=x,y,w,h in its first frame"
	@echo "make test    run the tests; ARGS='test/test_x.py -k name' picks some"
	@echo "make build   only set up: .venv and the colcon workspace"
	@echo "make clean   remove all that make has made"

build:
	@scripts/setup.sh

demo: build
	@source setup.bash && scripts/run_demo.sh

test: build
	@source setup.bash && pytest $(ARGS)

clean:
	rm -rf .venv build install log demo

.PHONY: help build demo test clean
