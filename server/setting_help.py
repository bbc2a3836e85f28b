"""What each setting does: one text for the command line, the settings and the docs.

Apart from ``settings`` because ``nibble serve --help`` must not wait for Pydantic.
"""

from __future__ import annotations

from typing import Final

SETTING_HELP: Final[dict[str, str]] = {
    "host": "Address to listen on.",
    "port": "Port to listen on; 0 takes a free one and prints it.",
    "models_dir": "Directory whose *.gguf files are served [default: models in the data directory].",
    "data_dir": "Directory for what the server remembers between starts.",
    "preload": "Id of a model to load at start; may be repeated"
    " [default: the first one that loads, those of the models directory before the bundled one].",
    "context": "Tokens that one request may use, prompt and answer together [default: from the model].",
    "parallel": "Requests that one model runs at once [default: from the memory there is].",
    "threads": "Threads that compute [default: the processors this process may use].",
    "gpu_layers": "Layers that the GPU computes [default: all, where the build has a GPU backend].",
    "kv_budget": "Memory for one model's KV cache, such as 2GiB [default: a share of what is left].",
    "kv_layout": "partitioned (each request has its own buffer: faster), unified (all share a pool: long and short"
    " requests side by side in little memory), or auto: by the budget.",
    "cache_type": "Format of the KV cache: f16, q8_0 (half the memory) or q4_0 (a quarter, at some cost in quality).",
    "flash_attention": "auto (wherever the device has it), on or off; a quantised KV cache needs it.",
    "prefix_memory": "Memory for cached prompts that lost their place, such as 1GiB; 0 keeps none"
    " [default: a tenth of what is left, 2 GiB at most].",
    "step_target_ms": "Longest gap that a new prompt may put between two tokens of a running stream.",
    "speculation": "Guess ahead where text repeats itself; the answers are the same, and come sooner.",
    "queue_limit": "Requests that may wait for one model; one more is refused.",
    "stall_limit_s": "Seconds of silence after which a busy worker is taken for hung, and replaced.",
    "strict": "Refuse requests with unknown fields, instead of a warning.",
    "request_timeout_s": "Seconds that one request may take, loading and queueing included.",
    "max_body_bytes": "Largest request body, such as 4MB.",
    "ping_s": "Seconds of silence on a stream after which a comment is sent; 0 sends none.",
    "drain_s": "Seconds that running requests get to finish after SIGTERM or Ctrl-C.",
    "allowed_hosts": "Name that clients may call this server by, besides localhost; may be repeated.",
    "allowed_origins": "Origin of web pages that may call this server; may be repeated.",
    "insecure_no_auth": "Listen on other addresses than loopback although there are no API keys.",
    "log_format": "pretty, json, or auto: pretty on a terminal and JSON elsewhere.",
    "log_level": "Least important messages to log: debug, info, warning or error.",
}
