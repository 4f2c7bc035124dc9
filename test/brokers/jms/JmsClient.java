import jakarta.jms.BytesMessage;
import jakarta.jms.Destination;
import jakarta.jms.JMSConsumer;
import jakarta.jms.JMSContext;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.MessageEOFException;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.StreamMessage;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TextMessage;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Enumeration;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.qpid.jms.JmsConnectionFactory;

/**
 * Sends and receives for a test, as standard input says. The answer is the message, as JMS shows it, as JSON in which
 * each value is "<Java class> <value>":
 *
 * <ul>
 *   <li>`send <queue> <kind>`, `receive <queue>`
 *   <li>`request <queue> <kind> <correlation id>` sends a message with a temporary queue as reply-to, and
 *       `reply <count>` takes replies from there (the answer is a list)
 *   <li>`serve <queue> <message-id | correlation-id> <kind | same> <count>` takes requests (the answer is a list), and
 *       then replies to each, the last first: with a message of that kind or the request itself, and that id of the
 *       request as correlation id
 * </ul>
 */
public class JmsClient {
  private static final byte[] BYTES = {0, 1, (byte) 0xfe, (byte) 0xff};

  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    PrintStream out = new PrintStream(System.out, true, "UTF-8");
    try (JMSContext context = new JmsConnectionFactory(args[0]).createContext()) {
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        out.println(json(answer(context, line.split(" "))));
      }
    }
  }

  /** Where replies to our requests come. */
  private static TemporaryQueue replies;

  private static Object answer(JMSContext context, String[] words) throws JMSException {
    switch (words[0]) {
      case "send":
        Queue elsewhere = context.createQueue("replies");
        return shown(send(context, context.createQueue(words[1]), words[2], elsewhere, "correlated"));
      case "receive":
        return shown(receive(context, context.createQueue(words[1]), 1).get(0));
      case "request":
        if (replies == null) replies = context.createTemporaryQueue();
        return shown(send(context, context.createQueue(words[1]), words[2], replies, words[3]));
      case "reply":
        return shownAll(receive(context, replies, Integer.parseInt(words[1])));
      case "serve":
        return serve(context, context.createQueue(words[1]), words[2], words[3], Integer.parseInt(words[4]));
      default:
        throw new IllegalArgumentException(words[0]);
    }
  }

  private static List<Object> serve(JMSContext context, Queue queue, String id, String kind, int count)
      throws JMSException {
    List<Message> requests = receive(context, queue, count);
    List<Object> shown = shownAll(requests);
    Collections.reverse(requests);
    for (Message request : requests) {
      Destination replyTo = request.getJMSReplyTo();
      String correlationId = id.equals("message-id") ? request.getJMSMessageID() : request.getJMSCorrelationID();
      Message reply = kind.equals("same") ? request : message(context, kind);
      reply.setJMSCorrelationID(correlationId);
      reply.setJMSReplyTo(null);
      context.createProducer().send(replyTo, reply);
    }
    return shown;
  }

  private static Message send(JMSContext context, Queue queue, String kind, Queue replyTo, String correlationId)
      throws JMSException {
    Message message = message(context, kind);
    message.setBooleanProperty("aBoolean", true);
    message.setByteProperty("aByte", (byte) -8);
    message.setShortProperty("aShort", (short) -16);
    message.setIntProperty("anInt", -32);
    message.setLongProperty("aLong", -64);
    message.setLongProperty("aLargeLong", Long.MAX_VALUE);
    message.setFloatProperty("aFloat", 0.1f);
    message.setDoubleProperty("aDouble", 0.1);
    message.setDoubleProperty("aWholeDouble", 2);
    message.setStringProperty("aString", "grüße €");
    message.setStringProperty("JMSXGroupID", "group");
    message.setIntProperty("JMSXGroupSeq", 7);
    message.setJMSCorrelationID(correlationId);
    message.setJMSType("greeting");
    message.setJMSReplyTo(replyTo);
    context.createProducer().setPriority(7).setTimeToLive(3_600_000).send(queue, message);
    return message;
  }

  private static Message message(JMSContext context, String kind) throws JMSException {
    switch (kind) {
      case "text":
        return context.createTextMessage("grüße €");
      case "bytes":
        BytesMessage bytes = context.createBytesMessage();
        bytes.writeBytes(BYTES);
        bytes.reset();
        return bytes;
      case "map":
        MapMessage map = context.createMapMessage();
        map.setBoolean("aBoolean", true);
        map.setByte("aByte", (byte) -8);
        map.setShort("aShort", (short) -16);
        map.setInt("anInt", -32);
        map.setLong("aLong", -64);
        map.setLong("aLargeLong", Long.MAX_VALUE);
        map.setFloat("aFloat", 0.1f);
        map.setDouble("aDouble", 0.1);
        map.setDouble("aWholeDouble", 2);
        map.setChar("aChar", '€');
        map.setString("aString", "grüße €");
        map.setString("noString", null);
        map.setBytes("bytes", BYTES);
        return map;
      case "stream":
        StreamMessage stream = context.createStreamMessage();
        stream.writeBoolean(true);
        stream.writeByte((byte) -8);
        stream.writeShort((short) -16);
        stream.writeInt(-32);
        stream.writeLong(-64);
        stream.writeLong(Long.MAX_VALUE);
        stream.writeFloat(0.1f);
        stream.writeDouble(0.1);
        stream.writeDouble(2);
        stream.writeChar('€');
        stream.writeString("grüße €");
        stream.writeString(null);
        stream.writeBytes(BYTES);
        stream.reset();
        return stream;
      case "object":
        return object(context);
      case "typed-object":
        Message typed = object(context);
        typed.setBooleanProperty("JMS_AMQP_TYPED_ENCODING", true);
        return typed;
      case "no-body":
        return context.createMessage();
      default:
        throw new IllegalArgumentException(kind);
    }
  }

  private static Message object(JMSContext context) {
    return context.createObjectMessage(new ArrayList<>(List.of("grüße €", 1)));
  }

  private static List<Message> receive(JMSContext context, Queue queue, int count) {
    List<Message> messages = new ArrayList<>();
    try (JMSConsumer consumer = context.createConsumer(queue)) {
      while (messages.size() < count) {
        messages.add(Objects.requireNonNull(consumer.receive(10_000), "no message in " + queue));
      }
    }
    return messages;
  }

  private static List<Object> shownAll(List<Message> messages) throws JMSException {
    List<Object> shown = new ArrayList<>();
    for (Message message : messages) shown.add(shown(message));
    return shown;
  }

  private static Map<String, Object> shown(Message message) throws JMSException {
    Map<String, Object> properties = new TreeMap<>();
    for (Object name : Collections.list((Enumeration<?>) message.getPropertyNames())) {
      properties.put((String) name, shown(message.getObjectProperty((String) name)));
    }
    Map<String, Object> headers = new TreeMap<>();
    headers.put("JMSCorrelationID", shown(message.getJMSCorrelationID()));
    headers.put("JMSDeliveryMode", shown(message.getJMSDeliveryMode()));
    headers.put("JMSDeliveryTime", shown(message.getJMSDeliveryTime()));
    headers.put("JMSExpiration", shown(message.getJMSExpiration()));
    headers.put("JMSMessageID", shown(message.getJMSMessageID()));
    headers.put("JMSPriority", shown(message.getJMSPriority()));
    headers.put("JMSReplyTo", shown(message.getJMSReplyTo()));
    headers.put("JMSTimestamp", shown(message.getJMSTimestamp()));
    headers.put("JMSType", shown(message.getJMSType()));
    Map<String, Object> shown = new TreeMap<>(Map.of("headers", headers, "properties", properties));
    if (message instanceof TextMessage text) put(shown, "TextMessage", shown(text.getText()));
    else if (message instanceof BytesMessage bytes) put(shown, "BytesMessage", bytes(bytes));
    else if (message instanceof MapMessage map) put(shown, "MapMessage", map(map));
    else if (message instanceof StreamMessage stream) put(shown, "StreamMessage", stream(stream));
    else if (message instanceof ObjectMessage object) put(shown, "ObjectMessage", shown(object.getObject()));
    else put(shown, "Message", "");
    return shown;
  }

  private static void put(Map<String, Object> shown, String type, Object body) {
    shown.put("type", type);
    shown.put("body", body);
  }

  private static String bytes(BytesMessage message) throws JMSException {
    message.reset();
    byte[] bytes = new byte[(int) message.getBodyLength()];
    message.readBytes(bytes);
    return shown(bytes);
  }

  private static Map<String, Object> map(MapMessage message) throws JMSException {
    Map<String, Object> map = new TreeMap<>();
    for (Object name : Collections.list((Enumeration<?>) message.getMapNames())) {
      map.put((String) name, shown(message.getObject((String) name)));
    }
    return map;
  }

  private static List<Object> stream(StreamMessage message) throws JMSException {
    message.reset();
    List<Object> list = new ArrayList<>();
    try {
      while (true) list.add(shown(message.readObject()));
    } catch (MessageEOFException end) {
      return list;
    }
  }

  private static String shown(Object value) {
    if (value == null) return "null";
    if (value instanceof byte[] bytes) return "byte[] " + HexFormat.of().formatHex(bytes);
    return value.getClass().getSimpleName() + " " + value;
  }

  private static String json(Object value) {
    if (value instanceof Map<?, ?> map) {
      return map.entrySet().stream()
          .map(entry -> json(entry.getKey()) + ":" + json(entry.getValue()))
          .collect(Collectors.joining(",", "{", "}"));
    }
    if (value instanceof List<?> list) {
      return list.stream().map(JmsClient::json).collect(Collectors.joining(",", "[", "]"));
    }
    return '"' + ((String) value).replace("\\", "\\\\").replace("\"", "\\\"") + '"';
  }
}
