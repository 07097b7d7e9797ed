"""The `serve` section of params.yaml: the engine, the server's life, what every question looks like."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from workflow_scripts.params.base import Pixels, Section

SHORTEST_PROMPT = 32  # tokens: the chat's own words and a sentence


class Sampling(Section):
    """Sampling parameters, all sent with every question: an engine's own defaults differ."""

    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the distribution that is sampled from")
    seed: int = Field(0, ge=0, description="seed of the sampling")
    max_tokens: int = Field(64, ge=1, description="longest answer, in tokens")


class Questions(Section):
    """How the client asks."""

    in_flight: int = Field(8, ge=1, description="questions asked at once")
    image_format: Literal["png", "jpeg"] = Field("png", description="how images travel; png loses nothing")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for one answer")
    transport_retries: int = Field(8, ge=0, description="how often a question is sent again when the server fails to answer")
    backoff: float = Field(0.25, ge=0, description="seconds before the first of them, doubled each time up to 8")
    malformed_retries: int = Field(2, ge=0, description="how often a question is asked again when its answer breaks the form")
    retry_temperature: float = Field(0.5, gt=0, description="temperature of those: greedy decoding would repeat itself")
    fall_back_limit: float = Field(0.1, ge=0, le=1, description="share of unusable answers above which the job fails")
    fall_back_after: int = Field(20, ge=1, description="answers from which on the share is looked at before the end")


class Life(Section):
    """The server's start, restarts and end."""

    start_seconds: float = Field(240.0, gt=0, description="time it has to answer its first question")
    restarts: int = Field(3, ge=0, description="how often a server that dies under its questions is started again")
    stop_seconds: float = Field(10.0, gt=0, description="time it has to end when told to, before it is killed")
    probe: Literal["parses", "answers"] = Field(
        "parses", description="ready when the answer to a rendered pair has the form, or when there is any answer"
    )


class Vllm(Section):
    """Settings of vLLM alone."""

    max_model_len: int = Field(2048, ge=128, description="longest prompt and answer together, in tokens")
    max_num_seqs: int = Field(16, ge=1, description="sequences decoded at once")
    kv_cache_gib: float = Field(1.0, gt=0, description="memory of the key-value cache on a CPU, in GiB")
    enforce_eager: bool = Field(True, description="no compilation: it costs a minute and a small model gains nothing")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory to use")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model")


class Serve(Section):
    """Parameters of the serve stage."""

    engine: Literal["vllm", "transformers", "url"] = Field(
        description="vllm; transformers (a small server of our own); url (one that runs already). Never a silent fall-back"
    )
    url: str = Field("", description="engine url: its address, e.g. http://127.0.0.1:8000")
    name: str = Field("reasoningtrack", min_length=1, description="name the model is served under")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where the engine runs")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the weights")
    threads: int = Field(1, ge=1, description="threads of an engine on a CPU")
    prompt: str = Field("reasoningtrack", description="name of the prompt (workflow_scripts/prompts.py); follows prompt_style")
    pixels: Pixels = Field(description="pixel limits of every image a language model sees, in every stage")
    sampling: Sampling = Field(Sampling(), description="sampling parameters")
    questions: Questions = Field(Questions(), description="how the client asks")
    life: Life = Field(Life(), description="the server's start, restarts and end")
    vllm: Vllm = Field(Vllm(), description="settings of vLLM alone")

    @property
    def longest_request(self) -> int:
        """Tokens of the largest two pictures, and of an answer to them, with room for the shortest question."""
        return 2 * (self.pixels.max_pixels // 28**2) + self.sampling.max_tokens + SHORTEST_PROMPT

    @model_validator(mode="after")
    def _room(self) -> Serve:
        if self.engine == "vllm" and self.longest_request > self.vllm.max_model_len:
            raise ValueError(
                f"two pictures, a question and its answer may take {self.longest_request} tokens, more than vllm.max_model_len "
                f"({self.vllm.max_model_len}): raise it, or lower pixels.max_pixels or sampling.max_tokens"
            )
        return self

    @model_validator(mode="after")
    def _address(self) -> Serve:
        if (self.engine == "url") != bool(self.url):
            raise ValueError("engine url and the address in `url` belong together")
        return self
