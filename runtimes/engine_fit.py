"""Whether a bundle's engines fit this machine and, where they do not, the one line that says so. No SDK."""

from __future__ import annotations

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.export.cards import card_for
from pocketgenie.export.manifest import Engines
from pocketgenie.runtimes.device import Device, too_little_memory
from pocketgenie.runtimes.device_backend import nbytes

PLAYED = ("encode", "observe", "prefill", "play", "decode")
"""The graphs that every player opens; the others serve `check`."""


def require_engines(bundle: Bundle) -> Engines:
    """Raises UserError unless the bundle holds an engine of every graph."""
    engines = bundle.manifest.engines
    if engines is None:
        target = bundle.manifest.target
        raise UserError(f"{bundle.folder} has no engines (target {target}); {rebuild(bundle, None)}")
    if missing := sorted(bundle.manifest.graphs.keys() - engines.graphs.keys()):
        raise UserError(f"{bundle.folder} has no engine of `{missing[0]}`; {rebuild(bundle, None)}")
    return engines


def played_bytes(bundle: Bundle, engines: Engines) -> int:
    """Device memory that playing takes at the least: engines and rings, not what the engines work in."""
    files = {engines.graphs[graph].file for graph in PLAYED if graph in engines.graphs}
    rings = (memory.slots * nbytes(memory.output()) for memory in bundle.manifest.spec.memories.values())
    return sum(bundle.manifest.files[file].size for file in files) + sum(rings)


def need(device: Device, size: int, purpose: str) -> None:
    """Raises UserError when fewer bytes are free than `purpose` needs."""
    if size > (free := device.free_memory()):
        raise too_little_memory(purpose, size, free)


def refusal(bundle: Bundle, engines: Engines, device: Device, diagnostics: set[str]) -> UserError | None:
    """Why an engine is invalid, by the library's EngineInvalidityDiagnostics and the manifest's cards."""
    foreign = engines.capabilities and device.capability not in engines.capabilities
    name = name_of(engines)
    if "OLD_CUDA_DRIVER" in diagnostics:
        return UserError(
            f"the NVIDIA driver is too old: it offers {device.driver}, "
            f"too little for this {name}; update the driver"
        )
    if foreign or "UNSUPPORTED_CC" in diagnostics:
        cards = f"{', '.join(engines.cards)} ({', '.join(engines.capabilities) or 'Ampere and newer'})"
        return UserError(
            f"this bundle's engines were built for {cards}, "
            f"this card is {device.name} ({device.capability}); {rebuild(bundle, device)}"
        )
    if "INSUFFICIENT_GPU_MEMORY" in diagnostics:
        return too_little_memory("this world", played_bytes(bundle, engines), device.free_memory())
    if diagnostics & {"VERSION_MISMATCH", "MALFORMED_ENGINE"}:
        return UserError(
            f"{name} cannot read this bundle's engines (damaged, or of another version); "
            f"{rebuild(bundle, device)}"
        )
    return None


def rebuild(bundle: Bundle, device: Device | None) -> str:
    """The command that builds engines for a card, or for the bundle's own ones; from the bundle if it can."""
    manifest = bundle.manifest
    source = bundle.folder if manifest.reference else "CHECKPOINT"
    engines = manifest.engines
    cards = ",".join(engines.cards) if engines else "rtx30,rtx40,rtx50"
    flavor = engines.flavor if engines else "rtx"
    if device:
        card = card_for(device.capability)
        cards, flavor = (card.name, flavor) if card else ("this", "standard")
    if flavor == "standard":
        cards += " --flavor standard"
    precision = f" --precision {manifest.precision}" if engines and manifest.precision != "fp16" else ""
    return f"pocketgenie export {source} --target tensorrt --cards {cards}{precision}"


def name_of(engines: Engines) -> str:
    """As NVIDIA calls it."""
    return {"rtx": "TensorRT for RTX", "standard": "TensorRT"}[engines.flavor]
