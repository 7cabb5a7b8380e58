"""NVIDIA GPUs that XLA compiles for that are not present: what its compiler asks of a device, from data sheets and from XLA's own specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rein_jax.errors import UserError

USABLE = 0.92  # of a GPU's memory, as scripts/cuda_train.sh sets it


@dataclass(frozen=True)
class Gpu:
    """capability: major, minor. memory, shared (of a multiprocessor), l2: bytes. bandwidth: bytes a second. clock: GHz."""

    title: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    shared: int
    l2: int
    bandwidth: int
    memory: int
    clock: float

    @property
    def usable(self) -> int:
        """Bytes that a run may take."""
        return int(USABLE * self.memory)

    def config(self) -> str:
        """XLA's GpuTargetConfigProto, as text."""
        major, minor = self.capability
        features = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
        return f"""gpu_device_info {{
            name: "{self.title}" device_vendor: "NVIDIA Corporation" device_address_bits: 64
            cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {features} }}
            core_count: {self.multiprocessors} fpus_per_core: {self.lanes} clock_rate_ghz: {self.clock}
            device_memory_size: {self.memory} memory_bandwidth: {self.bandwidth} l2_cache_size: {self.l2}
            shared_memory_per_core: {self.shared} shared_memory_per_block: 49152 shared_memory_per_block_optin: {self.shared - 1024}
            threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
            thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
            block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
            registers_per_core_limit: 65536 registers_per_block_limit: 65536
            driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
        }}
        platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }} runtime_version {{ major: 13 }}
        device_description_str: "{self.title}" """


GPUS = {
    "a100": Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167_936, 41_943_040, 2_039_040_000_000, 85_100_068_864, 1.41),
    "h100": Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233_472, 52_428_800, 3_352_320_000_000, 84_942_979_072, 1.98),
    "h200": Gpu("NVIDIA H200", (9, 0), 132, 128, 233_472, 52_428_800, 4_800_000_000_000, 151_397_597_184, 1.98),
    "b200": Gpu("NVIDIA B200", (10, 0), 148, 128, 233_472, 132_644_864, 7_672_320_000_000, 191_514_411_008, 1.965),
}


def gpu_devices(name: str, hosts: int, each: int) -> list[Any]:
    """Devices to compile for: `hosts` machines of `each` GPUs `name` of GPUS. A UserError says what is missing."""
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform="cuda", topology_name="", target_config=GPUS[name].config(),
                                             topology=f"1x{hosts}x{each}")
    except Exception as error:  # a missing plugin, an impossible number: JAX has no one type for these
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"The GPU topology {name}:{hosts}x{each} cannot be described ({reason}); the CUDA compiler is needed, not a GPU: "
                        "pip install 'rein-jax[gpu]'.") from None
    return list(found.devices)
