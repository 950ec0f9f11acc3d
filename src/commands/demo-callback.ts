/**
 * A callback as Tencent's documentation of "before a one-to-one message is sent" shows it, with the comments taken out:
 * https://www.tencentcloud.com/document/product/1047/34364. IM appends the query to whatever URL is configured.
 */
export const CALLBACK = {
  target:
    '/im-callback?SdkAppid=888888&CallbackCommand=C2C.CallbackBeforeSendMsg&contenttype=json&ClientIP=127.0.0.1&OptPlatform=iOS',
  body: JSON.stringify({
    CallbackCommand: 'C2C.CallbackBeforeSendMsg',
    From_Account: 'jared',
    To_Account: 'John',
    MsgSeq: 48374,
    MsgRandom: 2837546,
    MsgTime: 1557481126,
    MsgKey: '48374_2837546_1557481126',
    OnlineOnlyFlag: 1,
    MsgBody: [{ MsgType: 'TIMTextElem', MsgContent: { Text: 'red packet' } }],
    CloudCustomData: 'your cloud custom data',
  }),
  /** What IM waits for: the message may be sent. */
  answer: '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}',
} as const;
