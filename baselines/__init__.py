"""The learners, one file each. Importing this package registers them; `get` imports one."""

from zoo.registry import learners

learners.scan(__name__, __path__)
