"""Masking (RFC 6455, 5.3), by the C helper of `websockets` where it was built."""

try:
    from websockets.speedups import apply_mask as mask_bytes
except ImportError:  # a platform without the compiled helper
    from websockets.utils import apply_mask as mask_bytes

__all__ = ["mask_bytes"]
