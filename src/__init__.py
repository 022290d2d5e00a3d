"""EmoNet-FER: train, compare and explain EmoNet models of facial expressions."""

import os

# OpenMP's threads wait by spinning, by default. Where another process needs a core, a training on two cores was then
# measured to be 8 to 13 times slower than with threads that sleep at once; these cost a small network 1.7 times the
# time on an idle machine. A spin of microseconds costs neither (docs/performance.md). OpenMP reads this when torch is
# first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
