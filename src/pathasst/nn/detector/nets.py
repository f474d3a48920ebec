"""The two networks of the recipes behind one small interface: maps, loss, decoding.

`lite0` joins EfficientNet-Lite0 with ImageNet weights (`pathasst.nn.pretrained`) to RTMDet's neck, head and loss (Lyu et al.
2022) as libreyolo has them: on a few hundred pictures, features that have seen ImageNet beat any nano network trained from
nothing, and the dynamic soft-label assignment needs no anchors to tune. `yolov7` is libreyolo's YOLOv7 (the paper's sub-models 2
and 3; Wang et al. 2022) with its own loss. The training loop is ours: libreyolo's writes pickles and knows no budget of minutes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from pathasst.nn.detector.settings import DetectorSettings
from pathasst.nn.pretrained import efficientnet_lite0

STRIDES = (8, 16, 32)
EARLY = ("conv_stem", "bn1", "blocks.0", "blocks.1")


class DetectorNetwork(nn.Module, ABC):
    """Pixels [b, 3, h, w] float 0…255 (h, w multiples of 32) → maps, whatever they are; `loss` and `decode` understand them."""

    settings: DetectorSettings

    @abstractmethod
    def loss(self, maps: Any, boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Losses by name, `total` among them. `boxes`: b times [n, 4] xyxy px, `labels`: b times [n] int64."""

    @abstractmethod
    def decode(self, maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes [b, n, 4] xyxy px and scores [b, n, classes] 0…1, float32, before suppression."""

    @abstractmethod
    def backbone_parameters(self) -> list[nn.Parameter]:
        """Those that came pretrained, and learn more slowly."""


class Lite0(DetectorNetwork):
    """EfficientNet-Lite0, RTMDet's feature pyramid (strides 8, 16, 32) and its head with shared convolutions."""

    def __init__(self, settings: DetectorSettings, pretrained: bool = False, frozen: str = "none") -> None:
        from libreyolo.models.rtmdet.loss import RTMDetLoss
        from libreyolo.models.rtmdet.nn import CSPNeXtPAFPN, RTMDetSepBNHead

        super().__init__()
        self.settings = settings
        body: Any = efficientnet_lite0(pretrained=pretrained)
        # The last stage is for classification of whole pictures; half of the weights, nothing for boxes.
        body.blocks = body.blocks[:6]
        body.blocks[5] = body.blocks[5][: settings.blocks]
        self.body: Any = body
        for name in ("conv_head", "bn2", "global_pool", "classifier"):
            setattr(self.body, name, nn.Identity())
        width, classes = settings.channels, len(settings.classes)
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (40, 112, 192)])
        self.neck = CSPNeXtPAFPN([width] * 3, width, num_csp_blocks=1)
        # exp: a fresh head starts with boxes of two strides, so that some overlap and the first steps teach.
        self.head = RTMDetSepBNHead(classes, width, width, strides=STRIDES, exp_on_reg=True)
        self._criterion = RTMDetLoss(classes, STRIDES, distributed_normalize=False)
        for name, parameter in self.body.named_parameters():
            early = name.startswith(EARLY)
            stays = {"early": early, "convolutions": early or parameter.ndim > 1, "body": True}
            parameter.requires_grad = not stays.get(frozen, False)

    def forward(self, pixels: torch.Tensor) -> Any:
        x = self.body.bn1(self.body.conv_stem(pixels / 127.5 - 1))
        levels = []
        for stage, block in enumerate(self.body.blocks):
            x = block(x)
            if stage in (2, 4, 5):
                levels.append(x)
        return self.head(self.neck(tuple(conv(level) for conv, level in zip(self.lateral, levels, strict=True))))

    def loss(self, maps: Any, boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        losses = self._criterion(*maps, boxes, labels)
        return {"total": losses["total_loss"], "class": losses["loss_cls"], "box": losses["loss_bbox"]}

    def decode(self, maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
        scores, sides = (torch.cat([m.flatten(2).transpose(1, 2) for m in part], 1).float() for part in maps)
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps[0]]
        centres = self._criterion.prior_generator.grid_priors(sizes, device=scores.device)[:, :2]
        return torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1), scores.sigmoid()

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())


class YoloV7(DetectorNetwork):
    """libreyolo's YOLOv7 (37 M parameters, MIT), trained with its SimOTA loss."""

    def __init__(self, settings: DetectorSettings) -> None:
        from libreyolo.models.yolo7.net import YOLOv7Model

        super().__init__()
        self.settings = settings
        self.net = YOLOv7Model(num_classes=len(settings.classes))
        self.net.initialize_biases()

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.net(pixels / 255)

    def loss(self, maps: Any, boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = maps[0].new_zeros(len(boxes), max(max(map(len, boxes)), 1), 5, dtype=torch.float32)
        for row, xyxy, label in zip(rows, boxes, labels, strict=True):
            row[: len(xyxy), 0] = label
            row[: len(xyxy), 1:3] = (xyxy[:, :2] + xyxy[:, 2:]) / 2
            row[: len(xyxy), 3:] = xyxy[:, 2:] - xyxy[:, :2]
        losses = self.net.compute_loss(maps, rows)
        return {"total": losses["total_loss"], "class": losses["cls_loss"], "box": losses["iou_loss"]}

    def decode(self, maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
        from libreyolo.postprocess.yolo7 import decode_export

        anchors = [torch.tensor(a, dtype=torch.float32, device=maps[0].device).view(-1, 2) for a in self.net.anchors]
        rows = decode_export([m.float() for m in maps], anchors, self.net.strides, len(self.settings.classes))
        return rows[:, :4].transpose(1, 2), rows[:, 4:].transpose(1, 2)

    def backbone_parameters(self) -> list[nn.Parameter]:
        return []


def build(settings: DetectorSettings, *, pretrained: bool = False, frozen: str = "none") -> DetectorNetwork:
    """A network, float32, training mode. `pretrained` and `frozen` concern lite0's backbone.

    Raises MissingWeights when the ImageNet weights are asked for and not on this machine.
    """
    return Lite0(settings, pretrained, frozen) if settings.architecture == "lite0" else YoloV7(settings)


def channels_last(network: DetectorNetwork) -> DetectorNetwork:
    """The network in the memory order that convolutions on a CPU like best."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
