# Collections come at other moments, and find fewer objects: what is there at the start was
# frozen, so that it stays shared between the processes.
import gc

print(gc.get_count(), gc.get_freeze_count(), len(gc.get_objects()))
