// The whole path with mqtt.js: a consumer group reads what a device publishes,
// a command reaches the device, and its publisher learns what became of it.
// usage: node path.js <URL> <protocol version 4 or 5>; prints one JSON line.
const mqtt = require('mqtt');

const url = process.argv[2];
const version = Number(process.argv[3]);

function connect(clientId, options = {}) {
  return new Promise((resolve, reject) => {
    const client = mqtt.connect(url, { clientId, protocolVersion: version, reconnectPeriod: 0, ...options });
    client.once('connect', () => resolve(client));
    client.once('error', reject);
  });
}

function message(client, wanted) {
  return new Promise((resolve) => {
    const listen = (topic, payload, packet) => {
      if (!wanted(topic, payload)) return;
      client.off('message', listen);
      resolve({ topic, payload: payload.toString(), properties: packet.properties || {} });
    };
    client.on('message', listen);
  });
}

// What a message of QoS 1 is answered with. The callback of publish does not
// show codes below 0x80, so the PUBACK itself is looked at.
function publish(client, topic, payload, properties) {
  return new Promise((resolve) => {
    const listen = (packet) => {
      if (packet.cmd !== 'puback') return;
      client.off('packetreceive', listen);
      resolve({ code: packet.reasonCode || 0, properties: packet.properties });
    };
    client.on('packetreceive', listen);
    client.publish(topic, payload, { qos: 1, properties }, () => {});
  });
}

async function main() {
  const consumer = await connect('js-consumer');
  const granted = await consumer.subscribeAsync('$share/js/app/demo', { qos: 1 });
  const device = await connect('js-1');
  await device.subscribeAsync(['command/inbox/#', '$SYS/#'], { qos: 1 }); // some dashboards ask for both

  const event = message(consumer, (_, payload) => payload.includes('"subject":"temperature"'));
  const accepted = await publish(device, 'temperature', '{"celsius":21.5}');
  const delivery = await event;

  const inbox = message(device, (topic) => topic.startsWith('command/'));
  const delivered = await publish(consumer, 'command/demo/js-1/setTemperature', '{"value":1.23}');
  const command = await inbox;
  const absent = await publish(consumer, 'command/demo/nobody/setTemperature', '');
  const strange = await publish(device, 'a/b/c', '');
  const bad = version === 5 ? await publish(device, 'temperature', '{celsius', { contentType: 'application/json' }) : { code: 0 };

  await Promise.all([consumer.endAsync(), device.endAsync()]);
  console.log(JSON.stringify({ granted: granted[0].qos, accepted, delivery, delivered, command, absent, strange, bad }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
