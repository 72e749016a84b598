"""A generator calibrated on openb's figures, for machines without the trace.

Nodes and pod shapes are tables of counts, durations are quantiles per class of pod, arrivals the day's rhythm: the
statistics of the openb trace (default mix), counted from the public files (see `openb`), not the files themselves.
The shapes that make up the rarest 7 % of the trace's pods are left out, but every one that wants several devices is
kept: the waiting comes from those few.
"""

import numpy as np

from training.workloads.arrivals import Rhythm
from training.workloads.assembly import NodePrices, PodColumns, assemble, columns_of_nodes, request_columns
from training.workloads.base import Population, shape_classes

MIB = 1024 * 1024

# (cpu milli, memory MiB, devices, how many nodes)
NODES = (
    (96000, 393216, 8, 549),
    (104000, 524288, 2, 387),
    (16000, 122880, 2, 107),
    (128000, 786432, 8, 39),
    (32000, 131072, 4, 28),
    (64000, 262144, 2, 22),
    (96000, 786432, 8, 21),
    (8000, 32768, 1, 19),
    (96000, 393216, 4, 17),
    (48000, 376832, 4, 9),
    (64000, 262144, 8, 7),
    (8000, 61440, 1, 3),
    (8000, 61440, 2, 2),
    (128000, 1048576, 1, 2),
    (82000, 344064, 8, 1),
)

# (cpu milli, memory MiB, devices, milli of each device, how many pods)
PODS = (
    (3152, 5600, 1, 810, 1047),
    (11300, 49152, 1, 1000, 857),
    (11400, 48128, 1, 1000, 534),
    (3152, 5600, 1, 1000, 470),
    (11908, 47104, 1, 470, 388),
    (12500, 57344, 0, 0, 364),
    (8000, 30517, 1, 470, 360),
    (32000, 49152, 0, 0, 284),
    (18708, 64512, 1, 1000, 255),
    (11908, 47104, 1, 650, 237),
    (9810, 41560, 1, 1000, 195),
    (8000, 30517, 0, 0, 163),
    (12000, 24576, 1, 1000, 158),
    (15700, 58368, 1, 1000, 158),
    (11908, 47104, 1, 1000, 153),
    (15400, 51200, 0, 0, 120),
    (4000, 22888, 1, 320, 111),
    (16000, 32768, 1, 1000, 108),
    (8000, 16384, 1, 1000, 104),
    (4000, 24576, 1, 1000, 104),
    (12000, 16384, 1, 1000, 99),
    (16500, 51200, 0, 0, 95),
    (14200, 58368, 1, 1000, 93),
    (4000, 30517, 1, 230, 84),
    (24200, 93184, 1, 1000, 84),
    (4000, 15258, 1, 320, 78),
    (3152, 5600, 1, 590, 75),
    (8000, 30517, 1, 320, 72),
    (4152, 10600, 1, 550, 72),
    (11400, 77824, 1, 1000, 65),
    (8000, 32768, 1, 1000, 55),
    (4000, 15258, 1, 160, 53),
    (6000, 6144, 1, 460, 51),
    (11900, 77824, 1, 1000, 51),
    (4152, 10600, 1, 370, 45),
    (12000, 15360, 1, 1000, 44),
    (4000, 30517, 1, 320, 43),
    (8200, 33792, 1, 1000, 41),
    (4000, 31250, 1, 1000, 40),
    (15200, 80896, 1, 1000, 36),
    (88000, 327680, 8, 1000, 18),
    (64200, 263168, 8, 1000, 18),
    (32200, 132096, 4, 1000, 9),
    (16200, 66560, 2, 1000, 7),
    (120000, 737280, 8, 1000, 3),
    (6000, 65536, 2, 1000, 3),
    (64000, 262144, 8, 1000, 3),
    (32000, 131072, 4, 1000, 3),
    (30200, 160768, 2, 1000, 3),
    (60200, 320512, 4, 1000, 3),
    (17400, 43008, 2, 1000, 2),
    (120200, 640000, 8, 1000, 2),
    (14000, 60000, 2, 1000, 1),
)

QUANTILES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
# Seconds at these quantiles: without GPU, part of a device, one device, several devices.
DURATIONS = (
    (10, 94, 135, 151, 173, 250, 456, 787, 1402, 2512, 12873, 19471, 28365, 10143286),
    (1, 27, 54, 109, 174, 267, 439, 745, 1119, 2243, 7141, 16536, 74631, 12475899),
    (1, 59, 93, 164, 229, 346, 633, 1072, 1740, 3164, 5429, 12389, 169864, 12537496),
    (23, 37, 47, 140, 265, 498, 606, 1617, 3593, 15312, 66774, 185630, 1069633, 1332357),
)
BEST_EFFORT_SHARE = (0.41, 0.75, 0.16, 0.0)  # priority 0 instead of 1000, by the same classes
HOUR_WEIGHTS = (
    *(515, 456, 362, 436, 426, 318, 291, 331, 242, 146, 222, 204),
    *(152, 149, 137, 271, 301, 425, 550, 466, 352, 430, 432, 538),
)
GAP_VARIATION = 2.0  # squared coefficient of variation of the gaps between arrivals in the trace's busy weeks
ORDINARY_PRIORITY = 1000


def generate_population(generator: np.random.Generator, prices: NodePrices | None = None) -> Population:
    """Generate openb-like nodes and pods; durations are drawn between the quantiles on a log scale."""
    nodes = columns_of_nodes([row[:3] for row in NODES for _ in range(row[3])], MIB)
    request, gpu_count, gpu_milli = request_columns([row[:4] for row in PODS for _ in range(row[4])], MIB)

    pod_class = shape_classes(gpu_count, gpu_milli)
    uniform = generator.random(len(request))
    log_seconds = np.log(np.asarray(DURATIONS, dtype=np.float64))
    duration = np.zeros(len(request))
    for index in range(len(DURATIONS)):
        members = pod_class == index
        duration[members] = np.exp(np.interp(uniform[members], QUANTILES, log_seconds[index]))
    best_effort = generator.random(len(request)) < np.asarray(BEST_EFFORT_SHARE)[pod_class]
    return assemble(
        f"built-in generator calibrated on openb's figures, {len(nodes.devices)} nodes and {len(request)} pods",
        nodes,
        PodColumns(request, gpu_count, gpu_milli, duration, np.where(best_effort, 0, ORDINARY_PRIORITY)),
        rhythm=Rhythm(np.asarray(HOUR_WEIGHTS, dtype=np.float64), GAP_VARIATION),
        prices=prices,
    )
