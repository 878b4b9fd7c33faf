"""Gene programs: which genes belong together, by all that is known of them before and by the training cells."""

from scperturb_modules.models.scbig.programs._programs import GenePrograms

__all__ = ["GenePrograms"]
