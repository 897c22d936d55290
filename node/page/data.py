"""What all data of the status page's API has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class Data(BaseModel):
    """Unchangeable, and made of the fields that it names and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")
