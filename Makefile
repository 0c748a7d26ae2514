.PHONY: proto
proto: ## regenerate cri_dockerd_py/_generated from proto/
	.venv/bin/python proto/generate.py
