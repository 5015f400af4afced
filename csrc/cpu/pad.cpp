#include "pad.h"

#include <cstring>

namespace evenconv {
namespace {

struct Line {
  char* data;
  int64_t pixel;    // bytes from one pixel to the next
  int64_t channel;  // and from one channel to the next
};

Line line_of(const PadParams& p, const View& view, int64_t n, int64_t c, int64_t h, int64_t w) {
  const int64_t* stride = view.stride;
  const int64_t element = n * stride[0] + c * stride[1] + h * stride[2] + w * stride[3];
  return {static_cast<char*>(view.data) + element * p.element_size, stride[3] * p.element_size,
          stride[1] * p.element_size};
}

// Of a line of pixels × channels: whether a pixel's channels touch, and whether the pixels then touch too.
bool channels_touch(const PadParams& p, const Line& line, int64_t channels) {
  return channels == 1 || line.channel == p.element_size;
}
bool pixels_touch(const PadParams& p, const Line& line, int64_t channels) {
  return channels_touch(p, line, channels) && line.pixel == channels * p.element_size;
}

// Calls f(pixel, channel, bytes) for each contiguous piece.
template <class F>
void for_each_piece(const PadParams& p, bool dense, bool pixelwise, int64_t pixels, int64_t channels, F&& f) {
  const int64_t E = p.element_size;
  if (dense) return f(0, 0, pixels * channels * E);
  for (int64_t w = 0; w < pixels; ++w) {
    if (pixelwise) {
      f(w, 0, channels * E);
    } else {
      for (int64_t c = 0; c < channels; ++c) f(w, c, E);
    }
  }
}

void copy(const PadParams& p, const Line& to, const Line& from, int64_t pixels, int64_t channels) {
  const bool dense = pixels_touch(p, to, channels) && pixels_touch(p, from, channels);
  const bool pixelwise = channels_touch(p, to, channels) && channels_touch(p, from, channels);
  for_each_piece(p, dense, pixelwise, pixels, channels, [&](int64_t w, int64_t c, int64_t bytes) {
    std::memcpy(to.data + w * to.pixel + c * to.channel, from.data + w * from.pixel + c * from.channel, bytes);
  });
}

void clear(const PadParams& p, const Line& to, int64_t pixels, int64_t channels) {
  for_each_piece(
      p, pixels_touch(p, to, channels), channels_touch(p, to, channels), pixels, channels,
      [&](int64_t w, int64_t c, int64_t bytes) { std::memset(to.data + w * to.pixel + c * to.channel, 0, bytes); });
}

bool interleaved(const View& view) { return view.stride[1] == 1 && view.stride[3] != 1; }

// One task as (image, channels, rows) of the written tensor, a direction at a time.
template <class F>
void for_each_part(const PadParams& p, const View& written, int64_t height, int64_t task, F&& f) {
  if (!interleaved(written)) {
    const int64_t n = task / p.C, c = task % p.C;
    int group = 3;
    while (c < group_begin(p.C, group)) --group;
    return f(n, c, int64_t{1}, p.direction[group], int64_t{0}, height);
  }
  const int64_t n = task / height, h = task % height;
  for (int group = 0; group < 4; ++group) {
    const int64_t c = group_begin(p.C, group), channels = group_begin(p.C, group + 1) - c;
    if (channels > 0) f(n, c, channels, p.direction[group], h, h + 1);
  }
}

}  // namespace

int64_t pad_tasks(const PadParams& p) { return p.N * (interleaved(p.padded) ? p.H + p.kernel_size - 1 : p.C); }

void pad(const PadParams& p, int64_t task) {
  const int32_t total = p.kernel_size - 1;
  for_each_part(p, p.padded, p.H + total, task,
                [&](int64_t n, int64_t c, int64_t channels, Direction direction, int64_t begin, int64_t end) {
                  const int32_t top = leading_pad(p.kernel_size, pads_top(direction));
                  const int32_t left = leading_pad(p.kernel_size, pads_left(direction));
                  for (int64_t row = begin; row < end; ++row) {
                    const int64_t h = row - top;
                    if (h < 0 || h >= p.H) {
                      clear(p, line_of(p, p.padded, n, c, row, 0), p.W + total, channels);
                      continue;
                    }
                    clear(p, line_of(p, p.padded, n, c, row, 0), left, channels);
                    copy(p, line_of(p, p.padded, n, c, row, left), line_of(p, p.plain, n, c, h, 0), p.W, channels);
                    clear(p, line_of(p, p.padded, n, c, row, left + p.W), total - left, channels);
                  }
                });
}

int64_t crop_tasks(const PadParams& p) { return p.N * (interleaved(p.plain) ? p.H : p.C); }

void crop(const PadParams& p, int64_t task) {
  for_each_part(p, p.plain, p.H, task,
                [&](int64_t n, int64_t c, int64_t channels, Direction direction, int64_t begin, int64_t end) {
                  const int32_t top = leading_pad(p.kernel_size, pads_top(direction));
                  const int32_t left = leading_pad(p.kernel_size, pads_left(direction));
                  for (int64_t h = begin; h < end; ++h)
                    copy(p, line_of(p, p.plain, n, c, h, 0), line_of(p, p.padded, n, c, h + top, left), p.W, channels);
                });
}

}  // namespace evenconv
