// A tile: one block of channels of a band of rows of one image, gone through from top to bottom. Scratch holds of every
// map of the chain a window of rows; all windows hold the same rows of the image.
#pragma once

#include "../params.h"
#include "pixels.h"
#include "plan.h"
#include "taps.h"

namespace evenconv::EVENCONV_ISA {

struct Rows {
  int64_t begin, end;
};

// A map of the chain. `reach` rows around the band are made of it; of those above and below the tensor, which are
// zeros, only the `pad` next to it that its reader's kernel reads.
template <class T>
struct Map {
  T* data;
  int64_t reach, pad;
};

template <class T>
struct Tile {
  const Plan& plan;
  Block block;
  int64_t H, W;
  Rows band;
  int64_t image;
  Rows step;       // of the band, that the present step adds to what came before
  int64_t origin;  // row at the front of every window

  int64_t row_size() const { return plan.pitch * block.channels; }
  int64_t gap_size() const { return (plan.pitch - W) * block.channels; }
  int64_t index(int64_t row) const { return (row - origin) * row_size(); }
  Area area(Rows rows) const { return {rows.end - rows.begin, W * block.channels, row_size(), block.channels}; }

  // The map's rows that this step makes: at each step a map is its reach ahead of the band.
  Rows due(const Map<T>& map) const {
    const int64_t before = step.begin == band.begin ? band.begin - map.reach : step.begin + map.reach;
    const int64_t begin = before < -map.pad ? -map.pad : before, end = step.end + map.reach;
    return {begin, end < H + map.pad ? end : H + map.pad};
  }

  void begin_image(int64_t n) {
    image = n;
    step = {band.begin, band.begin};
    origin = band.begin - plan.halo;
  }

  // Goes on to the next rows; if the windows are full, the rows that are still to be read move to their front.
  bool advance(const Map<T>* maps, int count) {
    if (step.end == band.end) return false;
    step.begin = step.end;
    step.end = step.begin + plan.step_rows < band.end ? step.begin + plan.step_rows : band.end;
    if (step.end + plan.halo - origin > plan.window_rows && step.begin > band.begin) {
      const int64_t front = step.begin - plan.halo;
      for (int m = 0; m < count; ++m)
        std::memmove(maps[m].data, maps[m].data + index(front), 2 * plan.halo * row_size() * sizeof(T));
      origin = front;
    }
    return true;
  }

  // Makes the rows that are due: make(rows) those inside the tensor; zeros go before, between and behind.
  template <class F>
  void extend(const Map<T>& map, F&& make) const {
    const Rows rows = due(map);
    if (rows.begin >= rows.end) return;
    const Rows inside = {rows.begin < 0 ? 0 : rows.begin, rows.end > H ? H : rows.end};
    for (int64_t row = rows.begin; row < 0; ++row) zero(map.data + index(row), row_size());
    if (inside.begin < inside.end) make(inside);
    zero(map.data + index(rows.begin) - gap_size(), gap_size());
    const int64_t gap = gap_size(), size = row_size();
    T* behind = map.data + index(inside.begin) + size - gap;
    for (int64_t row = inside.begin; row < inside.end; ++row, behind += size) zero(behind, gap);
    for (int64_t row = inside.end; row < rows.end; ++row) zero(map.data + index(row), row_size());
  }
};

template <class Storage>
Storage* row_of(const View& view, int64_t n, int64_t c, int64_t h) {
  return static_cast<Storage*>(view.data) + n * view.stride[0] + c * view.stride[1] + h * view.stride[2];
}

// Calls f(run, first row) for runs that together are the tensor's rows among these; with a stride, every stride-th
// pixel of the tile is the tensor's.
template <class T, class F>
void for_each_run(const Tile<T>& tile, Rows rows, const View& view, int32_t stride_h, int32_t stride_w, F&& f) {
  const int64_t width = (tile.W + stride_w - 1) / stride_w;
  const bool joined = stride_h == 1 && view.stride[2] == width * view.stride[3];
  const int64_t first = (rows.begin + stride_h - 1) / stride_h * stride_h;
  const int64_t count = joined ? rows.end - rows.begin : 1;
  for (int64_t row = first; row < rows.end; row += stride_h * count)
    f(Run{count * width, width, tile.plan.pitch, stride_w}, row);
}

// Makes the map's due rows from the tensor; between the pixels of a strided one lie zeros, as its gradient has them.
template <class Storage, class T>
void load_rows(const Tile<T>& tile, const Map<T>& map, const View& view, int32_t stride_h, int32_t stride_w) {
  tile.extend(map, [&](Rows rows) {
    if (stride_h > 1 || stride_w > 1)
      zero(map.data + tile.index(rows.begin), (rows.end - rows.begin) * tile.row_size());
    for_each_run(tile, rows, view, stride_h, stride_w, [&](const Run& run, int64_t row) {
      load_pixels(run, tile.block.channels, map.data + tile.index(row),
                  row_of<const Storage>(view, tile.image, tile.block.channel, row / stride_h), view.stride);
    });
  });
}

// The step's rows of the map into the tensor.
template <class Storage, class T>
void store_rows(const Tile<T>& tile, const Map<T>& map, const View& view, int32_t stride_h, int32_t stride_w) {
  for_each_run(tile, tile.step, view, stride_h, stride_w, [&](const Run& run, int64_t row) {
    store_pixels(run, tile.block.channels, row_of<Storage>(view, tile.image, tile.block.channel, row / stride_h),
                 view.stride, map.data + tile.index(row));
  });
}

}  // namespace evenconv::EVENCONV_ISA
