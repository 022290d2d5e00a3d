"""EmoNet-FER: train, compare and explain EmoNet models of facial expressions."""

import os

# OpenMP's threads wait by spinning, by default. Where another process needs a core, a training on two cores was then
# measured to be 8 to 13 times slower than with sleeping threads, which cost nothing on an idle machine. OpenMP reads
# this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
