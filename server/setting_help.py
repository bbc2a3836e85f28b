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
    "embed": "Id of a model to load for embeddings although it could generate text; may be repeated.",
    "matryoshka": "Id of an embedding model trained so that its vectors may be cut; may be repeated.",
    "adapters": "LoRA adapter as MODEL:NAME=PATH: requests for MODEL:NAME are answered with it; may be repeated.",
    "models": "Settings of single models, as tables of nibble.toml: [models.ID].",
    "context": "Tokens that one request may use, prompt and answer together [default: from the model].",
    "parallel": "Requests that one model runs at once [default: from the memory there is].",
    "threads": "Threads that compute [default: the processors this process may use].",
    "gpu_layers": "Layers that the GPU computes [default: all, where the build has a GPU backend].",
    "kv_budget": "Memory for one model's KV cache, such as 2GiB [default: a share of what is left].",
    "kv_layout": "partitioned (each request has its own buffer: faster), unified (all share a pool: long and short"
    " requests side by side in little memory), or auto: by the budget.",
    "cache_type": "Format of the KV cache: f16, q8_0 (half the memory) or q4_0 (a quarter, at some cost in quality).",
    "flash_attention": "auto (whatever decodes faster here, found at load), on or off; a quantised KV cache needs it.",
    "prefix_memory": "Memory for cached prompts that lost their place, such as 1GiB; 0 keeps none"
    " [default: a tenth of what is left, 2 GiB at most].",
    "prefix_disk": "Disk for cached prompts, of all models together, which then survive a restart, such as 4GiB; they"
    " are kept readable in the data directory, by its owner alone [default: 0, none].",
    "step_target_ms": "Longest gap that a new prompt may put between two tokens of a running stream.",
    "speculation": "Guess ahead where text repeats itself; the answers are the same, and come sooner.",
    "draft_model": "GGUF file of a smaller model with the same vocabulary, which guesses ahead for every model that"
    " generates text; answers stay what they are [default: none].",
    "chat_template": "Chat template for every model: a file, or the name of a family (alpaca, chatml, gemma, koala,"
    " llama2, llama3, mistral, open-assistant, phi3, vicuna, zephyr) [default: the one in the model's file].",
    "reasoning_format": "How models mark their reasoning, which is told apart from the answer: think (<think> tags),"
    " magistral ([THINK] tags), harmony (gpt-oss), none (leave it in the answer), or auto: by the chat template.",
    "tool_format": "Notation in which models write tool calls: general (for any model), hermes, llama3, mistral,"
    " mistral_args, qwen3_coder, deepseek, deepseek_v31, gemma, gemma4, harmony, or auto: by the chat template.",
    "queue_limit": "Requests that may wait for one model; one more is refused.",
    "queue_tokens": "Tokens that may wait for one model, of prompts and of the answers that may come; what is more is"
    " refused, unless nothing else waits.",
    "key_queue_limit": "Requests of one API key that may wait for one model.",
    "key_queue_tokens": "Tokens of one API key that may wait for one model.",
    "queue_timeout_s": "Seconds that a request may wait for its turn, the loading of a model not counted; the header"
    " x-nibble-queue-timeout-s asks for less [default: no limit but request_timeout_s].",
    "stall_limit_s": "Seconds of silence after which a busy worker is taken for hung, and replaced.",
    "confine_workers": "Take from the processes that run models what they have no need of: network, core dumps, and"
    " more memory and files than they were planned with. Some of it needs Linux.",
    "load_timeout_s": "Seconds that loading one model may take before its worker is ended, and the load has failed.",
    "strict": "Refuse requests with unknown fields, instead of a warning.",
    "request_timeout_s": "Seconds that one request may take, loading and queueing included.",
    "max_body_bytes": "Largest request body, such as 4MB.",
    "header_timeout_s": "Seconds within which the headers of a request must arrive.",
    "body_timeout_s": "Seconds within which the body of a request must arrive.",
    "send_timeout_s": "Seconds that a client may leave what it was sent unread before it is disconnected.",
    "max_header_bytes": "Largest headers of a request, its path included, such as 32KiB.",
    "ping_s": "Seconds of silence on a stream after which a comment is sent; 0 sends none.",
    "memory_budget": "Memory that all loaded models together may take, by estimate, such as 12GiB; the longest unused"
    " one that is idle is unloaded to make room [default: what the machine or its cgroup has left].",
    "keep_alive_s": "Seconds without use after which a model is unloaded [default: it stays].",
    "drain_s": "Seconds that running requests get to finish after SIGTERM or Ctrl-C.",
    "allowed_hosts": "Name that clients may call this server by, besides localhost; may be repeated.",
    "allowed_origins": "Origin of web pages that may call this server; may be repeated.",
    "api_key_file": "TOML file of API keys, besides those of 'nibble key create': a table per key, named after it.",
    "insecure_no_auth": "Listen on other addresses than loopback although there are no API keys;"
    " once there are, they are needed.",
    "vllm_metrics": "Show figures a second time under vLLM's names, for dashboards and autoscalers made for it.",
    "traces": "Send traces to OpenTelemetry's collector, which OTEL_* variables name; needs the extra 'tracing'.",
    "log_prompts": "Log prompts and answers too. Whoever reads the log then reads them.",
    "log_format": "pretty, json, or auto: pretty on a terminal and JSON elsewhere.",
    "log_level": "Least important messages to log: debug, info, warning or error.",
}
