"""Videos: an episode's frames cut out of a file without decoding, and frames read by their number.

clip         an episode's frames inside a file
mp4_header   what an mp4 claims, checked before anything is allocated
container    a file opened by FFmpeg, within those bounds
packets      all frames of a file in the order they are shown; cutting a clip out
frame_index  where each frame's packet lies in a cut
decoder      frames of indexed videos, by their number
colour       a decoded frame as RGB
reader       the three above for one file
"""

from dipole.data.store.video.clip import Clip, VideoError, video_error
from dipole.data.store.video.packets import PacketTable, cut
from dipole.data.store.video.reader import VideoReader

__all__ = ["Clip", "PacketTable", "VideoError", "VideoReader", "cut", "video_error"]
