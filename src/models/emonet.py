"""EmoNet: facial landmarks, expression, valence and arousal from one face image.

Re-implementation of the network of Toisoul et al., "Estimation of continuous valence and arousal levels from faces
in naturalistic conditions", Nature Machine Intelligence 3, 42-50 (2021), built on the Face Alignment Network of
Bulat and Tzimiropoulos (ICCV 2017). Parameter names are those of the published weights, so that they load strictly.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.arguments import FREEZE_LEVELS, RULES, TAPS, Freeze, Scale, Tap
from src.models.hourglass import ConvBlock, HourGlass
from src.models.normalization import Normalization
from src.utils.errors import ConfigError
from src.utils.validation import check_value

EMOTION = ("conv1x1_input_emo_2", "emo_net_2", "emo_fc_2")
# What each level of freezing leaves to be trained.
TRAINED: dict[str, tuple[str, ...]] = {"all": (), "fused": EMOTION[1:], "fan": EMOTION}
N_LANDMARKS = 68
IMAGE_SIZE_MULTIPLE = 64
# The stem divides the size by four; the four down-samplings of an hourglass then need a map of 16 or more.
STEM_STRIDE = 4
HEAD_WIDTH = 128


class EmoNetOutput(NamedTuple):
    """Outputs of the whole network for a batch of B images.

    Attributes:
        expression: Class logits, (B, n_expression).
        valence: Valence, (B,), trained towards [-1, 1] but not clipped.
        arousal: Arousal, (B,), likewise.
        heatmap: Landmark heat maps in iBUG order, (B, 68, H / 4, W / 4).
    """

    expression: Tensor
    valence: Tensor
    arousal: Tensor
    heatmap: Tensor


class EmoNet(nn.Module):
    """EmoNet for square RGB images in [0, 1] whose size is a multiple of 64.

    The default arguments give the published network (13.96 M parameters, 256 px). The state dict holds the published
    keys and no others.

    Attributes:
        width: Channels of the hourglasses and of every tap.
        n_blocks: Number of emotion blocks.
        mask_limit: Largest magnitude of the mask that gates the features, or None.
        feature_scale: What all that enters the fusion, and so every tap, is multiplied by.
        normalize: What is done to the images first.
    """

    def __init__(
        self,
        n_expression: int | None = 8,
        width: int = 256,
        n_hourglass: int = 2,
        n_blocks: int = 4,
        mask_limit: float | None = None,
        feature_scale: float = 1.0,
    ) -> None:
        """Create the network with fresh weights.

        Args:
            n_expression: Number of classes of the network's own classifier; None leaves the classifier out, for use
                as a backbone.
            width: Channels of the hourglasses, a multiple of 16.
            n_hourglass: Number of stacked hourglasses, 1 or more.
            n_blocks: Number of emotion blocks, 2 to 4; each halves the map.
            mask_limit: Magnitude that the mask approaches and never exceeds. None is the published network, whose mask
                is a sum of 68 unbounded maps: trained without landmarks it has reached 1,272, and the features with it
                221,279, beyond the range of half precision.
            feature_scale: Factor of the features at every tap; 1 is the published network. `src.models.rescaling`
                chooses a smaller one for trained weights, where half precision could not hold them.

        Raises:
            ConfigError: If an argument is outside its range.
        """
        super().__init__()
        self._frozen: list[nn.Module] = []
        given = {"width": width, "n_hourglass": n_hourglass, "n_blocks": n_blocks, "mask_limit": mask_limit}
        for name, value in given.items():
            check_value(f"backbone.{name}", value, *RULES[f"backbone.{name}"])
        check_value("feature_scale", feature_scale, "a number above 0", Scale)
        self.width, self.n_hourglass, self.n_blocks = width, n_hourglass, n_blocks
        self.mask_limit, self.feature_scale = mask_limit, feature_scale
        self.normalize: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(3, width // 4, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(width // 4)
        self.conv2 = ConvBlock(width // 4, width // 2)
        self.conv3 = ConvBlock(width // 2, width // 2)
        self.conv4 = ConvBlock(width // 2, width)
        for i in range(n_hourglass):
            self._add_hourglass(i, last=i == n_hourglass - 1)
        self.conv1x1_input_emo_2 = nn.Conv2d(width * (1 + n_hourglass), width, 1)
        blocks = [layer for _ in range(n_blocks) for layer in (ConvBlock(width, width, feature_scale), nn.MaxPool2d(2))]
        self.emo_net_2 = nn.Sequential(*blocks)
        if n_expression is not None:
            self.emo_fc_2 = emotion_classifier(width, n_expression + 2)
        self._initialize()

    def _add_hourglass(self, i: int, last: bool) -> None:
        width = self.width
        self.add_module(f"m{i}", HourGlass(width))
        self.add_module(f"top_m_{i}", ConvBlock(width, width))
        self.add_module(f"conv_last{i}", nn.Conv2d(width, width, 1))
        self.add_module(f"bn_end{i}", nn.BatchNorm2d(width))
        self.add_module(f"l{i}", nn.Conv2d(width, N_LANDMARKS, 1))
        if not last:
            self.add_module(f"bl{i}", nn.Conv2d(width, width, 1))
            self.add_module(f"al{i}", nn.Conv2d(N_LANDMARKS, width, 1))

    def _initialize(self) -> None:
        """He initialization; the last heat maps start at 1 / 68, so that their sum, the mask, starts near 1."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        heat = self.get_submodule(f"l{self.n_hourglass - 1}")
        nn.init.normal_(cast(Tensor, heat.weight), std=1e-3)
        nn.init.constant_(cast(Tensor, heat.bias), 1 / N_LANDMARKS)

    def forward(self, x: Tensor) -> EmoNetOutput:
        """Run the whole network.

        Args:
            x: RGB images in [0, 1], (B, 3, S, S) with S a multiple of 64.

        Returns:
            Logits, valence, arousal and heat maps.

        Raises:
            ConfigError: If the images' shape is wrong.
            RuntimeError: If the network was created without its classifier.
        """
        if "emo_fc_2" not in self._modules:
            raise RuntimeError("this EmoNet was created as a backbone (n_expression=None): call features().")
        fused, heatmaps = self.fuse(x)
        out = self.emo_fc_2(self.after_fusion(fused, "pooled"))
        return EmoNetOutput(out[:, :-2], out[:, -2], out[:, -1], heatmaps[-1])

    def features(self, x: Tensor, tap: Tap = "pooled") -> Tensor:
        """Compute the features that a head reads.

        Args:
            x: RGB images in [0, 1], (B, 3, S, S) with S a multiple of 64.
            tap: `fused` (B, width, S/4, S/4), `emotion2` (B, width, S/16, S/16), `emotion` (after all blocks) or
                `pooled` (B, width).

        Returns:
            The features at the tap.

        Raises:
            ConfigError: If the images' shape is wrong.
        """
        fused, _ = self.fuse(x)
        return self.after_fusion(fused, tap)

    def normalize_images(self, normalization: str) -> None:
        """Let the network normalize its images first, see `src.models.normalization`; the published one does not."""
        self.normalize = Normalization(normalization)

    @torch.no_grad()
    def scale_features(self, factor: float) -> None:
        """Multiply the features at every tap; what reads them is adapted by `src.models.rescaling`."""
        self.feature_scale *= factor
        cast(Tensor, self.conv1x1_input_emo_2.bias).mul_(factor)
        for block in self.emo_net_2:
            if isinstance(block, ConvBlock):
                block.residual_scale *= factor

    def fuse(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run everything before the emotion blocks.

        Args:
            x: RGB images in [0, 1], (B, 3, S, S) with S a multiple of 64.

        Returns:
            The features at the tap `fused`, and the landmark heat maps of each hourglass, (B, 68, S/4, S/4). The sum of
            the last ones is the mask that gates the features.

        Raises:
            ConfigError: If the images' shape is wrong.
        """
        check_image_size(x)
        x = F.relu(self.bn1(self.conv1(self.normalize(x))))
        x = F.max_pool2d(self.conv2(x), 2)
        x = self.conv4(self.conv3(x))
        previous, collected, heatmaps = x, [], []
        for i in range(self.n_hourglass):
            part = self.get_submodule
            level = part(f"top_m_{i}")(part(f"m{i}")(previous))
            level = F.relu(part(f"bn_end{i}")(part(f"conv_last{i}")(level)))
            heatmaps.append(part(f"l{i}")(level))
            if i < self.n_hourglass - 1:
                level = part(f"bl{i}")(level)
                previous = previous + level + part(f"al{i}")(heatmaps[i])
            collected.append(level)
        gated = torch.cat(collected, dim=1) * self._mask(heatmaps[-1])
        if self.feature_scale != 1:
            x = x * self.feature_scale
        return self.conv1x1_input_emo_2(torch.cat((x, gated), dim=1)), tuple(heatmaps)

    def _mask(self, heatmaps: Tensor) -> Tensor:
        """Return the scaled sum of the last heat maps, (B, 1, H, W), in their precision."""
        # In half precision, the sum alone could leave its range.
        mask = heatmaps.sum(dim=1, keepdim=True, dtype=torch.promote_types(heatmaps.dtype, torch.float32))
        if self.mask_limit is not None:
            mask = self.mask_limit * torch.tanh(mask / self.mask_limit)
        return (mask * self.feature_scale).to(heatmaps.dtype)

    def after_fusion(self, fused: Tensor, tap: Tap) -> Tensor:
        """Return the features at a tap, given those at `fused`."""
        features = self.emo_net_2[: 2 * blocks_before(tap, self.n_blocks)](fused)
        if tap == "pooled":
            features = F.adaptive_avg_pool2d(features, 1).flatten(1)
        return cast(Tensor, features)

    def prune(self, tap: Tap) -> None:
        """Drop the emotion blocks that `features(x, tap)` does not run."""
        self.emo_net_2 = self.emo_net_2[: 2 * blocks_before(tap, self.n_blocks)]

    def freeze(self, level: Freeze) -> None:
        """Stop training a part, for good: no gradients, and batch-norm that stays in evaluation mode.

        Args:
            level: `all`; `fused`, all before that tap; `fan`, all before the 1x1 fusion (the landmarks); or `none`.

        Raises:
            ConfigError: If the level is unknown.
        """
        if level not in FREEZE_LEVELS:
            raise ConfigError(f"backbone.freeze={level!r}; expected one of {', '.join(FREEZE_LEVELS)}.")
        trained = TRAINED.get(level)
        self._frozen = [] if trained is None else [m for n, m in self.named_children() if n not in trained]
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EmoNet:
        """Choose training or evaluation mode for all but the frozen parts."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def emotion_classifier(width: int, n_outputs: int) -> nn.Sequential:
    """Return EmoNet's own classifier: width -> 128, batch-norm, ReLU, n_outputs."""
    return nn.Sequential(
        nn.Linear(width, HEAD_WIDTH), nn.BatchNorm1d(HEAD_WIDTH), nn.ReLU(), nn.Linear(HEAD_WIDTH, n_outputs)
    )


def blocks_before(tap: Tap, n_blocks: int) -> int:
    """Return how many of `n_blocks` emotion blocks run before a tap.

    Raises:
        ConfigError: If the tap is unknown.
    """
    if tap not in TAPS:
        raise ConfigError(f"head.tap={tap!r} is unknown; expected one of {', '.join(TAPS)}.")
    return {"fused": 0, "emotion2": 2, "emotion": n_blocks, "pooled": n_blocks}[tap]


def tap_side(tap: Tap, image_size: int, n_blocks: int = 4) -> int:
    """Return the side of the map at a tap in pixels, for images of size `image_size` (1 for `pooled`)."""
    if tap == "pooled":
        return 1
    return int(image_size // STEM_STRIDE // 2 ** blocks_before(tap, n_blocks))


def check_image_size(x: Tensor) -> None:
    """Refuse images that are not (B, 3, S, S) with S a multiple of 64.

    Raises:
        ConfigError: If they are not.
    """
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.shape[2] % IMAGE_SIZE_MULTIPLE or not x.shape[2]:
        raise ConfigError(
            f"EmoNet got images of shape {tuple(x.shape)}; expected (batch, 3, size, size) with a size that is a "
            f"multiple of {IMAGE_SIZE_MULTIPLE}: set data.image_size to 64, 128, 192 or 256."
        )
