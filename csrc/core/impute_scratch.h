// Sizes of the memory that one thread of importance_impute works in. Nothing in it grows with N or K.
// Functions have internal linkage: units built for different instruction sets must not share one copy.
#pragma once

#include "core/importance_impute.h"
#include "core/tile.h"

namespace vsae {

struct ImputeScratch {
    float* input;          // [L + M, S], z then pi
    float* hidden[2];      // [widest layer, S], layers alternate between the two
    float* output;         // [widest block of outputs, S]
    float* output_weight;  // packed output layer of this row
    float* output_bias;    // [padded outputs]
    float* context_bias;   // [padded width of the first data layer]
    float* hidden_sum;     // [n_hidden, lanes], weighted sum of the last hidden vector
    float* class_sum;      // [D, lanes], weighted sum of the class probabilities
};

static inline int widest_attribute(const ImportanceImputeModel& model) {
    int widest = 1;
    for (int a = 0; a < model.n_attributes; ++a) {
        const int width = model.attribute_start[a + 1] - model.attribute_start[a];
        widest = width > widest ? width : widest;
    }
    return widest;
}

static inline int widest_layer(const ImportanceImputeModel& model) {
    int widest = model.n_hidden;
    for (int i = 0; i < model.n_mask_layers; ++i)
        widest = model.mask_layers[i].n_out > widest ? model.mask_layers[i].n_out : widest;
    for (int i = 0; i < model.n_data_layers; ++i)
        widest = model.data_layers[i].n_out > widest ? model.data_layers[i].n_out : widest;
    return widest;
}

// Outputs of one row after every attribute is padded to whole tiles, the numerical ones together.
static inline long packed_outputs(const ImportanceImputeModel& model) {
    return static_cast<long>(model.n_columns) + static_cast<long>(kTileRows) * (model.n_attributes + 1);
}

// Lays the arrays out from `base` and returns how many floats they take; with a null base it only counts.
static inline long lay_out(const ImportanceImputeModel& model, int block, int lanes, float* base,
                           ImputeScratch* scratch) {
    long used = 0;
    const auto take = [&](long floats) {
        float* p = base ? base + used : nullptr;
        used += (floats + 15) / 16 * 16;  // 64-byte lines
        return p;
    };
    const long widest = padded(widest_layer(model));
    const long scored = packed_outputs(model);
    scratch->input = take(static_cast<long>(model.n_latent + model.n_attributes) * block);
    scratch->hidden[0] = take(widest * block);
    scratch->hidden[1] = take(widest * block);
    scratch->output = take(scored * block);
    scratch->output_weight = take(scored * model.n_hidden);
    scratch->output_bias = take(scored);
    scratch->context_bias = take(widest);
    scratch->hidden_sum = take(static_cast<long>(model.n_hidden) * lanes);
    scratch->class_sum = take(static_cast<long>(model.n_columns) * lanes);
    return used;
}

}  // namespace vsae
