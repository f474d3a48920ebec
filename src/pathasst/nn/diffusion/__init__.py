"""Pictures of cytology from words: a small diffusion model of our own, and Stable Diffusion for those who have its weights.

`describe` measures a cell and puts it into words, `network` draws from words, `training` trains it, `stable` fine-tunes Stable
Diffusion.
"""
