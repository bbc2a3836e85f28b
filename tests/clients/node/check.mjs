// Walks OpenAI's own npm client through a running server. Arguments: the base URL and a model's id.
// Ends with status 0 and the word "passed" after each check, or with the failure on stderr.

import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Count from 1 to 10, separated by commas." }];
const greedy = { model, temperature: 0 };

const checks = {
  async chat() {
    const answer = await client.chat.completions.create({ ...greedy, messages, max_tokens: 8 });
    assert.equal(answer.choices[0].message.content, "1, 2, 3,");
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 8);
  },

  async streamed_chat() {
    const options = { stream: true, stream_options: { include_usage: true } };
    const stream = await client.chat.completions.create({ ...greedy, ...options, messages, max_tokens: 8 });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, "1, 2, 3,");
    assert.equal(usage.completion_tokens, 8);
  },

  async reassembled_by_the_client() {
    const stream = client.chat.completions.stream({ ...greedy, messages, max_tokens: 8 });
    assert.equal(await stream.finalContent(), "1, 2, 3,");
  },

  async streamed_tool_call() {
    const parameters = { type: "object", properties: { city: { enum: ["Paris", "Rome"] } }, required: ["city"] };
    const stream = client.chat.completions.stream({
      ...greedy,
      messages: [{ role: "user", content: "How is the weather in Paris?" }],
      tools: [{ type: "function", function: { name: "weather", parameters } }],
      tool_choice: { type: "function", function: { name: "weather" } },
      max_tokens: 60,
    });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.equal(message.tool_calls.length, 1);
    assert.equal(message.tool_calls[0].function.name, "weather");
    assert.ok(["Paris", "Rome"].includes(JSON.parse(message.tool_calls[0].function.arguments).city));
  },

  async completions() {
    const prompt = ["1, 2, 3,", "2, 4, 6,"];
    const answer = await client.completions.create({ ...greedy, prompt, max_tokens: 3 });
    assert.deepEqual(answer.choices.map((choice) => choice.text), [" 4,", " 8,"]);
  },

  async streamed_completions() {
    const stream = await client.completions.create({ ...greedy, prompt: "1, 2, 3,", max_tokens: 3, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0].text;
    assert.equal(text, " 4,");
  },

  async models() {
    const ids = [];
    for await (const found of client.models.list()) ids.push(found.id);
    assert.ok(ids.includes(model));
    assert.equal((await client.models.retrieve(model)).object, "model");
  },

  async errors() {
    await assert.rejects(client.models.retrieve("nope"), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      assert.match(error.requestID, /^req_/);
      return true;
    });
    await assert.rejects(client.chat.completions.create({ model, messages, temperature: 3 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.deepEqual([error.code, error.param], ["invalid_request", "temperature"]);
      return true;
    });
    const tooLong = { model, prompt: Array(9000).fill(260), stream: true };
    await assert.rejects(client.completions.create(tooLong), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.code, "context_length_exceeded");
      return true;
    });
  },

  async abort() {
    const stream = await client.chat.completions.create({ ...greedy, messages, stream: true });
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    const signal = AbortSignal.timeout(1);
    const waiting = client.chat.completions.create({ ...greedy, messages }, { signal });
    await assert.rejects(waiting, OpenAI.APIUserAbortError);
  },
};

for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (failure) {
    console.error(`${name} failed:`, failure);
    process.exit(1);
  }
  console.log(`${name} passed`);
}
