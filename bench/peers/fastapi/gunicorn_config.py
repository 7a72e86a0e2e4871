"""As the guide has it, but for what a comparison on one core asks: one worker, and none that ends in the middle."""

import os

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8080')}"
workers = 1
# Takes uvloop and httptools where they are installed.
worker_class = "uvicorn_worker.UvicornWorker"
worker_connections = 16384
backlog = 2048
keepalive = 75
graceful_timeout = 5
max_requests = 0
preload_app = True
accesslog = None
loglevel = "warning"
# No page is written for the heartbeat.
worker_tmp_dir = "/dev/shm"
