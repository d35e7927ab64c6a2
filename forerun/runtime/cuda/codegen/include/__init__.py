"""What every entry includes: ``device.cuh``, and ``delay.cuh`` and ``timeline.cuh`` where they are asked for."""
